"""The bundle: a model folder as training writes it and the worker serves it, with everything both must agree on.

Start with `manifest.py`, then `decode.py`, which turns image bytes into the model's input.
"""
