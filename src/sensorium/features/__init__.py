"""Numbers that say something of a stream, learnt without a gradient, one way a file. The contract: ``core/expert.py``."""
