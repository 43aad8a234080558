"""Layers that several parts share; they know torch and nothing of sensorium but what flows."""
