"""Data structures that flow between components, and the contracts of components."""
