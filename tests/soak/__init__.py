"""Soak test: a steady load, under which neither memory nor leftovers may grow. Start with `run.py`."""
