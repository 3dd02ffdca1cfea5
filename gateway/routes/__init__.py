"""The endpoints: each view reads a request, calls one part of the gateway and builds the response.

Start with `jobs.py`.
"""
