"""Holds the model and predicts in batches; reading order: `tasks.py`, `pipeline.py`, `batcher.py`, `runtime.py`."""
