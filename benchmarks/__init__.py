"""Benchmarks of time and memory: each file measures sensorium and a reference in one run. ``python -m benchmarks``"""
