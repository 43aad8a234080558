"""Explainers: methods of element attribution within a stream, one module each. The interface: ``core/explainer.py``."""
