"""The job ledger on Redis: the only source of truth about a job.

Start with `ledger.py`; `types.py` lists what goes in and out, `lua/` holds one script for each change of state.
"""
