"""`python -m deploy.local up` and `python -m deploy.local demo`, which `make up` and `make demo` run."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from contract.settings import SettingsError
from deploy.local.commands import demo, up
from deploy.local.errors import LocalError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        if options.command == "up":
            return up(os.environ)
        return demo(os.environ, options.photos, options.out, options.model)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return UsageError.exit_status
    except LocalError as error:
        print(error, file=sys.stderr)
        return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description="Run Pawqueue on one machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start all services and keep them running until Ctrl-C")
    example = commands.add_parser("demo", help="start temporary services, classify a folder of images, stop")
    example.add_argument("--photos", type=Path, default=Path("examples/photos"), help="folder of images")
    example.add_argument("--out", type=Path, default=Path("results.csv"), help="CSV file for the results")
    example.add_argument(
        "--import",
        dest="model",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="ARGUMENT",
        help="serve this model: the arguments of `pawqueue models import`, without --name",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
