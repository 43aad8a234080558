"""Kinds of cell: one file a kind, found by its name."""
