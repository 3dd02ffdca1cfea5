"""Chaos test: clients upload while workers, gateways, Redis and the network fail. Start with `run.py`."""
