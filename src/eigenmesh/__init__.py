"""Eigenmesh: route weights and circuit breakers for Envoy, decided by variational circuits."""

__version__ = "0.1.0"
