"""The `pawqueue` command: one file per subcommand, and `display.py`, `report.py` and `progress.py` for the terminal.

Start with `app.py`, which finds and runs the subcommands.
"""

from pawqueue.cli.app import main

__all__ = ["main"]
