"""Code that the services share: the job record, the ledger, the queues, errors, settings and logging.

Start with `job.py`, then `ledger/ledger.py`. This file imports nothing, which keeps each module cheap to import.
"""
