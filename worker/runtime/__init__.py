"""Loads the model of a bundle and calls it.

Start with `keras.py`. `tensorflow.py` and `side_by_side.py` make its calls fast on CPUs.
"""
