"""Head, loss, metrics and decoding: one file a task, found by its name."""
