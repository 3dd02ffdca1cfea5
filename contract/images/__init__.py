"""Storage for the bytes of images: uploads that wait for a worker, and thumbnails for the dashboard.

Start with `store.py`: the gateway writes each upload there and a worker reads it.
"""
