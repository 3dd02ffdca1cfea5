"""The Python client of a Pawqueue gateway: the `Pawqueue` class and the HTTP calls below it.

Start with `client.py` (what users call; `async_client.py` runs the same code for asyncio), then `connection.py` (one
HTTP request with retries), `jobs.py` and `submissions.py` (the endpoints).
"""

from pawqueue.client.async_client import AsyncPawqueue
from pawqueue.client.client import BULK, DEFAULT_URL, INTERACTIVE, Pawqueue

__all__ = ["BULK", "DEFAULT_URL", "INTERACTIVE", "AsyncPawqueue", "Pawqueue"]
