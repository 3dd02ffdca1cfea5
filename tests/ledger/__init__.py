"""Tests of the ledger and of the stores beside it, on a real Redis. Start with `test_jobs.py`."""
