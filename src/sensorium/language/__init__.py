"""Text mathematics, usable alone."""
