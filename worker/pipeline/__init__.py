"""The path of an image through a worker: claim, decode, batch, predict, commit.

Start with `pipeline.py`; `item.py` describes the data that the steps pass on.
"""
