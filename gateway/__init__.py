"""The HTTP door: takes uploads, writes jobs, answers with their outcomes; reading order: `submit.py`, `app.py`."""

#: Of this service and its interface; `pyproject.toml` carries the same, a test compares them.
VERSION = "0.1.0"
