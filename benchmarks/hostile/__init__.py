"""Hostile inputs, tried one by one: ``python -m benchmarks.hostile [area ...]``. Each file here is one area."""
