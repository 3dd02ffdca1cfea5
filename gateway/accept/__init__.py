"""Accepting images: `Acceptor` checks, stores, records and queues every upload, however it was sent.

Start with `acceptor.py`; `check.py` checks each image by its header (`header.py`) and names what is not an image
(`foreign.py`). `forms.py` and `archives.py` split forms and archives into images, `inflate.py` decompresses;
`submissions.py` and `dead_letters.py` build on the acceptor.
"""
