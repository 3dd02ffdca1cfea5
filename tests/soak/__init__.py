"""Soak test: under a steady load, memory must not grow and nothing may accumulate. Start with `run.py`."""
