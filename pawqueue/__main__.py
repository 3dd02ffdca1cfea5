"""Lets `python -m pawqueue` run the `pawqueue` command."""

from pawqueue.cli import main

if __name__ == "__main__":
    main()
