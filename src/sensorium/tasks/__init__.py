"""Tasks: head, loss, metrics and decoding, one module per task."""
