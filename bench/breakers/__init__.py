"""Circuit breakers on real Envoys."""
