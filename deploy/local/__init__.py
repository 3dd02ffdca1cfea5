"""Everything on one machine: read `__main__.py`, then `commands.py`, then `stack.py`."""
