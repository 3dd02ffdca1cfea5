"""Where the numbers come from: the job ledger, Prometheus or `/metrics`, the gateway, the model bundle and MLflow.

`reader.py` reads them all in one background thread; `snapshot.py` is the result that every page works from.
"""
