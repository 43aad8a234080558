"""Where in a stream an answer comes from, one way a file. The contract: ``core/explainer.py``."""
