"""The web server of the gateway and the dashboard: gunicorn's gevent worker, with limits on what one client can take.

Start with `server.py`. `connections.py` limits connections, `bodies.py` the memory for request bodies,
`turns.py` the time for which a request occupies the event loop.
"""
