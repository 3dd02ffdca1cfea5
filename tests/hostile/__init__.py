"""Attacks on running services, while an honest client measures its own waiting time. Start with `run.py`."""
