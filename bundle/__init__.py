"""The bundle: the model folder that training writes and the worker serves, and the code that both share.

Start with `manifest.py`, then `decode.py`, which turns image bytes into the model's input.
"""
