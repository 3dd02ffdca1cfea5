"""The endpoints: each view reads a request, calls a part of the gateway and builds the response.

Start with `jobs.py`.
"""
