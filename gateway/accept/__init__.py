"""Accepting images: `Acceptor` checks, stores, records and queues every upload, however it was sent.

Start with `acceptor.py`; `check.py` reads the header of each image. Forms and archives are split into images by
`forms.py` and `archives.py`; submissions and retries of dead jobs build on the acceptor.
"""
