"""The HTTP gateway: accepts images as jobs and returns their results. It is stateless: jobs are stored in Redis.

Start with `services.py`, which creates the parts. An upload passes through `routes/jobs.py`, `accept/acceptor.py` and
`results/waiters.py`.
"""

#: Version of this service and its API; must equal the one in `pyproject.toml`.
VERSION = "0.1.0"

#: WSGI environ key that marks a request whose body ended early or was not read. It is defined here because the server
#: module uses it too, and that module must not import anything that opens sockets.
BROKEN_BODY = "pawqueue.broken_body"
