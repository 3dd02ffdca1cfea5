"""Measures the service beside a bare loop of decode and predict, and simulates how it scales.

Start with `__main__.py`: it runs the `parts.py` on real processes (`service.py`) and writes a `report.py`.
"""
