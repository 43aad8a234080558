"""Encoder width to model width: one file an adapter, found by its name."""
