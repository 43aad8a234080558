"""Features: fixed or learned numeric descriptions of streams, one module per kind. Contract: ``core/expert.py``."""
