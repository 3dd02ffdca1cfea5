"""`pawqueue models import`: makes a bundle from a Keras image classifier that somebody else trained.

Start with `run.py`, which has the steps in order. Reading a file runs no code that is in it (`keras_file.py`,
`keras_config.py`).
"""
