"""Objectives, the losses that training minimises: one module per objective, found by its name."""
