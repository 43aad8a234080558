"""Experts: classical models fitted beside the network, one module each. The interface: ``core/expert.py``."""
