"""Tables to rows; nothing here knows a model."""
