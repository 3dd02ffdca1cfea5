"""The path of an image through a worker: claim, decode, batch, predict, commit.

Start with `pipeline.py`; every other module is one step or a part that the steps share.
"""
