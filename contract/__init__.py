"""What the services share about jobs: the record, the ledger, the queues, errors, settings.

Start with `job.py`, then `ledger/ledger.py`. This file imports nothing, so that each part keeps its own weight.
"""
