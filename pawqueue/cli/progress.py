"""The progress of `pawqueue submit`: a bar on a terminal, elsewhere a line every ten seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.status import Status

from pawqueue.bulk.files import FoundFile
from pawqueue.cli.display import duration
from pawqueue.cli.report import Tally

#: Interval between two lines without a terminal.
_LINE_EVERY_S = 10.0
#: Redrawing more often takes CPU time away from a service on the same machine.
_REDRAWS_PER_S = 4
_COUNT_EVERY = 1000


@contextmanager
def counting(console: Console, files: Iterator[FoundFile], *, quiet: bool) -> Iterator[Iterator[FoundFile]]:
    """Yield `files`; on a terminal, show how many have been found."""
    if quiet or not console.is_terminal:
        yield files
        return
    with console.status("Looking for images") as status:
        yield _counted(files, status)


@contextmanager
def reporting(console: Console, tally: Tally, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Yield a function to call after each change of `tally`; it updates the display."""
    if quiet:
        yield lambda: None
    elif console.is_terminal:
        with _bar(console) as bar:
            reporter = _BarReporter(bar, tally)
            try:
                yield reporter
            finally:
                reporter.show()
    else:
        yield _LineReporter(console, tally)


def _counted(files: Iterator[FoundFile], status: Status) -> Iterator[FoundFile]:
    for number, file in enumerate(files, 1):
        if number % _COUNT_EVERY == 0:
            status.update(f"Looking for images: {number:,} so far")
        yield file


class _BarReporter:
    def __init__(self, bar: Progress, tally: Tally) -> None:
        self._bar, self._tally = bar, tally
        self._task = bar.add_task("", total=tally.total, completed=tally.done, state="", failed="")
        self._next_s = 0.0

    def __call__(self) -> None:
        if time.monotonic() < self._next_s and self._tally.done < self._tally.total:
            return
        self._next_s = time.monotonic() + 1 / _REDRAWS_PER_S
        self.show()

    def show(self) -> None:
        failed = self._tally.done - self._tally.succeeded
        note = f"{failed:,} without a prediction" if failed else ""
        self._bar.update(self._task, completed=self._tally.done, state=_state(self._tally), failed=note)


class _LineReporter:
    def __init__(self, console: Console, tally: Tally) -> None:
        self._console, self._tally = console, tally
        self._next_s = time.monotonic() + _LINE_EVERY_S

    def __call__(self) -> None:
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _LINE_EVERY_S
            self._console.print(_line(self._tally), soft_wrap=True, highlight=False)


def _state(tally: Tally) -> str:
    if tally.rate:
        left = "" if tally.left_s is None or tally.done == tally.total else f", {duration(tally.left_s)} left"
        return f"{tally.rate:,.0f} images/s{left}"
    return f"{tally.accepted:,} sent" if tally.accepted else "sending"


def _line(tally: Tally) -> str:
    failed = tally.done - tally.succeeded
    left = "" if tally.left_s is None else f", about {duration(tally.left_s)} left"
    return f"{tally.done:,} of {tally.total:,} files, {tally.rate:.1f} images/s{left}, {failed:,} without a prediction"


def _bar(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TextColumn("{task.fields[failed]}"),
        console=console,
        refresh_per_second=_REDRAWS_PER_S,
    )
