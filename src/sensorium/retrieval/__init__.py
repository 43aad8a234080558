"""Search by content: an index of rows in the common space of a model."""
