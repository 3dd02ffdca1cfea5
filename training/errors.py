"""Errors that the user can fix, and how the training commands report them."""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from bundle.manifest import BundleError

#: If set, a failed stage writes its message to this file. `make train` prints it last, below DVC's own output.
ERROR_FILE_VARIABLE = "PAWQUEUE_TRAINING_ERROR_FILE"
#: Moves a terminal's cursor to the start of the line, and erases it.
_ERASE_LINE = "\r\x1b[K"


class TrainingError(Exception):
    """A problem that the user can fix. The message names the file or parameter and the remedy."""

    #: Exit status of the command.
    status = 1


class BackboneError(TrainingError):
    """The pretrained weights cannot be used. This is found before any training starts."""

    status = 2


def run_command(command: Callable[[], None]) -> None:
    """Run a command-line entry point. Known errors exit with a one-line message and their status, Ctrl-C with 130."""
    try:
        command()
    except TrainingError as error:
        _fail(str(error), error.status)
    except BundleError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _print("Interrupted. The next run resumes after the last finished step.")
        sys.exit(130)
    except OSError as error:
        _fail(_os_message(error))


def _fail(message: str, status: int = 1) -> NoReturn:
    if path := os.environ.get(ERROR_FILE_VARIABLE):
        with suppress(OSError):  # its disk may be full: then print the message
            Path(path).write_text(message, encoding="utf-8")
            sys.exit(status)
    _print(f"Error: {message}")
    sys.exit(status)


def _print(message: str) -> None:
    """Print a line, in place of a progress bar that a step has left unfinished."""
    print(f"{_ERASE_LINE if sys.stderr.isatty() else ''}{message}", file=sys.stderr)


def _os_message(error: OSError) -> str:
    where = error.filename or "the output folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"Disk is full: cannot write {where}. Free some space and run again."
    return f"{where}: {error.strerror or error}."
