"""Accepting images: `Acceptor` checks, stores, records and queues every upload, however it was sent.

Start with `acceptor.py`. Forms and archives are split into images by `forms.py` and `archives.py`; `submissions.py` and
`dead_letters.py` build on the acceptor.
"""
