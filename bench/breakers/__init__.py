"""Circuit breakers on real Envoys: what each policy does when it is needed."""
