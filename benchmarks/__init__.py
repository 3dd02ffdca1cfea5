"""Measures the service against a bare loop that only decodes and predicts, and simulates how the service scales.

Start with `__main__.py`, which runs the measurements in `parts.py` and writes the report (`report.py`).
"""
