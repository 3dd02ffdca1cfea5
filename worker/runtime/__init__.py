"""Loads the model of a bundle and calls it.

Start with `keras.py`. `strategies.py` finds out how batches run fastest, and `remembered.py` keeps what it found.
"""
