"""Evaluation of trained models: scores and their significance, robustness, and attribution of predictions."""
