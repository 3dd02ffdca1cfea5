"""The endpoints: each view reads the request, calls the code that handles it and builds the response.

Start with `jobs.py`.
"""
