"""The circuits' rivals on the same objective."""
