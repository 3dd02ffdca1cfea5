"""The web dashboard: pages that show what the service is doing.

Start with `data/reader.py`, which reads all sources into a snapshot every few seconds, then read `pages/live.py`, which
turns a snapshot into cards. `app.py` creates the Dash application from the pages.
"""

#: Maximum size of a request: the Try it page uploads up to 20 images, encoded as Base64, in one.
BODY_MAX_BYTES = 150_000_000
