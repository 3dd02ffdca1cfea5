"""Helpers for tests: running services, jobs, images and archives. Start with `services.py`."""
