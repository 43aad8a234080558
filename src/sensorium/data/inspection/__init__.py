"""Inspection of tables: types of columns and targets, duplicates, leakage, unusable cells."""
