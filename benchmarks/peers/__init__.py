"""Compares Pawqueue with other model servers that serve the same model: `make bench ONLY=peers`.

Start with `contest.py`, which measures in turns. `servers/` contains a program for each peer.
"""
