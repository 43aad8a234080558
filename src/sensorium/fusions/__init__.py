"""Many streams to one: one file a fusion, found by its name."""
