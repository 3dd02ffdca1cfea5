"""One program for each peer: the model and the decoding of the bare loop (`model.py`) behind that server.

Each runs in its own environment with the port as its argument, and follows the documentation of its framework. The
settings that several of them have are equal: batches of at most 32 images, which wait for at most 10 ms.
"""
