"""Model bundles: the folder format that training writes and the worker serves, and code that both use.

Start with `manifest.py`, then `decode.py`, which turns image bytes into the model's input.
"""
