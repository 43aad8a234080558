"""How fast, how large: each file is one measure, ours beside a reference in one run. ``python -m benchmarks``"""
