"""Fusions: one module per fusion of several streams to one, found by its name."""
