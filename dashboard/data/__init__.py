"""The data sources: the job ledger, Prometheus or `/metrics`, the gateway, the model bundle and MLflow.

Start with `reader.py`, whose background thread reads all of them. `snapshot.py` defines the result.
"""
