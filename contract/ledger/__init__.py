"""The job ledger in Redis, the single source of truth about jobs.

Start with `ledger.py`. `types.py` defines its arguments and return values; `lua/` holds one script per state change;
`requirements.py` checks at startup what Redis can do.
"""
