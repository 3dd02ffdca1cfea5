"""Storage for the bytes of images: uploads waiting for a worker, and thumbnails for the dashboard.

Start with `store.py`: the gateway writes each upload there and a worker reads it.
"""
