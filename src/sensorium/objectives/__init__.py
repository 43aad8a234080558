"""What training minimises: one file an objective, found by its name."""
