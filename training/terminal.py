"""What the user of `make train` sees: progress and the result. Everything else that is printed goes to a log file."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

#: Names the terminal on which stages show progress, because their own output goes to the log file.
TERMINAL_VARIABLE = "PAWQUEUE_TRAINING_TERMINAL"
_OUTPUTS = (1, 2)


def progress_bar(*items: Any, **options: Any) -> Any:
    """Return a tqdm bar with these arguments. It is shown only on a terminal."""
    return tqdm(*items, file=_terminal(), disable=None, **options)


def terminal_name() -> str | None:
    """The path of the terminal that shows this process's errors, or None if they go to a file or pipe."""
    try:
        return os.ttyname(sys.stderr.fileno())
    except (OSError, ValueError):
        return None


@contextmanager
def output_in(log: Path) -> Iterator[None]:
    """Append everything that is printed inside the `with` block to the file, also by native code."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in _OUTPUTS]
    try:
        with log.open("ab") as file:
            for number in _OUTPUTS:
                os.dup2(file.fileno(), number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip(_OUTPUTS, kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


@cache
def _terminal() -> TextIO:
    path = os.environ.get(TERMINAL_VARIABLE)
    return Path(path).open("w", encoding="utf-8") if path else sys.stderr
