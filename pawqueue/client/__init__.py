"""The Python client of a Pawqueue gateway: the `Pawqueue` class and the HTTP calls below it.

Start with `client.py` (what users call), then `connection.py` (one HTTP request with retries), `jobs.py` and
`submissions.py` (the endpoints).
"""

from pawqueue.client.client import BULK, DEFAULT_URL, INTERACTIVE, Pawqueue

__all__ = ["BULK", "DEFAULT_URL", "INTERACTIVE", "Pawqueue"]
