"""What answers beside the network and is fitted in one go, one way a file. The contract: ``core/expert.py``."""
