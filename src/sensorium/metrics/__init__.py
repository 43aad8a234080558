"""Metrics as weighted formulas that a bootstrap can resample, and the scorers that collect rows for them."""
