"""The web dashboard: pages that show what the service is doing.

Start with `data/reader.py`, which reads all sources into a snapshot every few seconds, then see `pages/live.py`, which
turns a snapshot into cards. `app.py` puts the pages together.
"""
