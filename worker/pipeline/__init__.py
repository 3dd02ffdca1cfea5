"""The path of an image through a worker: claim, decode, batch, predict, commit.

Start with `pipeline.py`; every other module is one step of it.
"""
