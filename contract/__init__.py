"""What the services agree on about a job.

Reading order: `job.py` (the record), `submission.py` (many of them), `errors.py` (what can go wrong), `ledger.py` (what
may be done to a record), `image_store.py` (where images wait), `broker.py` (the queues), `keys.py` (every Redis key),
`settings.py`, `log.py`.
This file imports nothing, so that each part keeps its own weight.
"""
