"""What keeps a worker and its jobs healthy while images pass through the pipeline.

Start with `leases.py` (this worker's jobs) and `reconciler.py` (jobs that other workers lost).
"""
