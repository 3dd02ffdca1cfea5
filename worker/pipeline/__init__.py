"""The path of an image through a worker: claim, decode, batch, predict, commit.

Start with `pipeline.py`; `item.py` describes what the steps pass on.
"""
