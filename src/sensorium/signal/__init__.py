"""Sound and sensor mathematics, usable alone."""
