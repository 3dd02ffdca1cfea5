"""The HTTP gateway: accepts images as jobs and returns their results. It holds no state of its own; Redis does.

Start with `services.py`, which puts the parts together. An image travels `routes/jobs.py`, `accept/acceptor.py`,
`results/waiters.py`.
"""

#: Version of this service and its API; must equal the one in `pyproject.toml`.
VERSION = "0.1.0"

#: Key in the WSGI environment of a request whose body ended early. Defined here because the server and the application
#: both use it, and the server must import nothing that opens sockets.
BROKEN_BODY = "pawqueue.broken_body"
