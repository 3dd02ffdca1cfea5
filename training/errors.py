"""The one kind of error that a user of training sees: a sentence that names the file or the knob."""

import errno
import sys
from collections.abc import Callable

from bundle.manifest import BundleError


class TrainingError(Exception):
    """Something a user can put right; the text says what and where."""


def run_command(command: Callable[[], None]) -> None:
    """Run a command-line entry; known failures become one sentence on stderr and exit status 1 (interrupt: 130)."""
    try:
        command()
    except (TrainingError, BundleError) as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        print("Interrupted; the next run goes on from the last finished step.", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        sys.exit(f"Error: {_os_sentence(error)}")


def _os_sentence(error: OSError) -> str:
    where = error.filename or "the output folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"No space is left on the disk of {where}. Free some and run again."
    return f"{where}: {error.strerror or error}."
