"""Modalities: one module per kind of cell, found by its name."""
