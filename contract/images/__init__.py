"""Where image bytes and thumbnails are kept.

Start with `store.py`: the gateway writes an upload there and the worker reads it.
"""
