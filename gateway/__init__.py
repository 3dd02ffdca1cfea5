"""The HTTP door: takes uploads, writes jobs, answers with their results; reading order: `submit.py`, `app.py`."""

#: Of this service and its interface; `pyproject.toml` carries the same, a test compares them.
VERSION = "0.1.0"

#: Set in the WSGI environment of a request whose body did not come to its end. Here, because server and application
#: both need it, and the server is imported before anything that opens sockets.
BROKEN_BODY = "pawqueue.broken_body"
