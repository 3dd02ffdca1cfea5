"""The one kind of error that a user of training sees: a sentence that names the file or the knob."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from bundle.manifest import BundleError

#: Where a stage leaves its sentence instead of saying it, so that it is not buried under what DVC says of the failure.
ERROR_FILE_VARIABLE = "PAWQUEUE_TRAINING_ERROR_FILE"


class TrainingError(Exception):
    """Something a user can put right; the text says what and where."""


def run_command(command: Callable[[], None]) -> None:
    """Run a command-line entry; known failures become one sentence on stderr and exit status 1 (interrupt: 130)."""
    try:
        command()
    except (TrainingError, BundleError) as error:
        _end(str(error))
    except KeyboardInterrupt:
        print("Interrupted; the next run goes on from the last finished step.", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        _end(_os_sentence(error))


def _end(sentence: str) -> NoReturn:
    if path := os.environ.get(ERROR_FILE_VARIABLE):
        Path(path).write_text(sentence, encoding="utf-8")
        sys.exit(1)
    sys.exit(f"Error: {sentence}")


def _os_sentence(error: OSError) -> str:
    where = error.filename or "the output folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"No space is left on the disk of {where}. Free some and run again."
    return f"{where}: {error.strerror or error}."
