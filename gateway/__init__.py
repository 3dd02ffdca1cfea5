"""The HTTP gateway: accepts images as jobs and returns their results. It is stateless: jobs are stored in Redis.

Start with `services.py`, which creates the parts. An upload passes through `routes/jobs.py`, `accept/acceptor.py` and
`results/waiters.py`.
"""

#: Version of this service and its API; must equal the one in `pyproject.toml`.
VERSION = "0.1.0"

#: A group of images from one request is accepted as soon as it has this many bytes. It is defined here because the
#: entry point uses it too, which must not import anything that opens sockets.
GROUP_MAX_BYTES = 8_000_000
