"""Tests of the ledger and the other stores, using a real Redis. Start with `test_jobs.py`."""
