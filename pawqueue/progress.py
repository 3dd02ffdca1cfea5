"""How far a run is: a bar on a terminal, a line now and then where there is none."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.status import Status

from pawqueue.files import FoundFile
from pawqueue.tally import Tally

#: Between two lines where there is no terminal.
_LINE_EVERY_S = 10.0
#: A faster one costs CPU that the service could use.
_REDRAWS_PER_S = 4
#: Files found between two words about it.
_COUNT_EVERY = 1000


class Reporter(Protocol):
    """Hears of each row."""

    def __call__(self) -> None:
        """One row more is in the tally."""


@contextmanager
def reporting(console: Console, tally: Tally, *, quiet: bool) -> Iterator[Reporter]:
    """Show on `console` how `tally` grows, each time that what this yields is called."""
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


def progress_line(tally: Tally) -> str:
    """One sentence: done, rate, time left, failures."""
    failed = tally.done - tally.succeeded
    left = "" if tally.left_s is None else f", about {duration(tally.left_s)} left"
    return f"{tally.done:,} of {tally.total:,} files, {tally.rate:.1f} images/s{left}, {failed:,} without a prediction"


@contextmanager
def looking(console: Console, files: Iterator[FoundFile], *, quiet: bool) -> Iterator[Iterator[FoundFile]]:
    """Yield `files`, and show how many have been found while that takes its time."""
    if quiet or not console.is_terminal:
        yield files
        return
    with console.status("Looking for images") as status:
        yield _counted(files, status)


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
        tally = self._tally
        if time.monotonic() < self._next_s and tally.done < tally.total:
            return
        self._next_s = time.monotonic() + 1 / _REDRAWS_PER_S
        self.show()

    def show(self) -> None:
        """Draw what the tally says."""
        tally = self._tally
        failed = tally.done - tally.succeeded
        note = f"{failed:,} without a prediction" if failed else ""
        self._bar.update(self._task, completed=tally.done, state=_state(tally), failed=note)


def _state(tally: Tally) -> str:
    """What goes on: sending, with how much is sent, or the rate of what comes back."""
    if tally.rate:
        left = "" if tally.left_s is None or tally.done == tally.total else f", {duration(tally.left_s)} left"
        return f"{tally.rate:,.0f} images/s{left}"
    return f"{tally.sent:,} sent" if tally.sent else "sending"


class _LineReporter:
    def __init__(self, console: Console, tally: Tally) -> None:
        self._console, self._tally = console, tally
        self._next_s = time.monotonic() + _LINE_EVERY_S

    def __call__(self) -> None:
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _LINE_EVERY_S
            self._console.print(progress_line(self._tally), soft_wrap=True, highlight=False)


def _bar(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TextColumn("{task.fields[failed]}"),
        console=console,
        refresh_per_second=_REDRAWS_PER_S,
    )


def duration(seconds: float) -> str:
    """A time span for people."""
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60} h {minutes % 60} min"
        if minutes >= 60
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )
