"""What the services share about jobs: the record, the ledger, the queues, errors, settings and logging.

Start with `job.py`, then `ledger/ledger.py`. This file imports nothing, so that each module stays cheap to import.
"""
