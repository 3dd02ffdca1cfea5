"""How fast Pawqueue is, beside a bare loop of decode and predict; reading order: `goals.py`, `parts.py`, `bare.py`."""
