"""Everything on one machine: `make up`, `make demo` and `pawqueue doctor`.

Start with `commands.py`, which follows one command from start to stop; `supervisord.conf` lists the services. The table
that the demo prints comes from `pawqueue submit`.
"""
