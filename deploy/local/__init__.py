"""Everything on one machine: `make up`, `make demo` and `pawqueue doctor`.

Start with `commands.py`, which follows one command from start to stop; `supervisord.conf` lists the services. The demo's
table is printed by `pawqueue submit`.
"""
