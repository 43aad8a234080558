"""Layouts to tokens: one file an encoder, found by its name."""
