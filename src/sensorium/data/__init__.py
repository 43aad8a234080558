"""Tables and their encoded rows; this package does not depend on models."""
