"""Background threads that keep a worker and its jobs healthy while the pipeline runs.

Start with `leases.py` (this worker's jobs) and `reconciler.py` (jobs that other workers lost).
"""
