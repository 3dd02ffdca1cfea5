"""Fuzzes the path of an image from bytes to pixels. Start with `run.py`; `make fuzz MINUTES=10` runs it."""
