"""The course of `pawqueue submit`: collect the files, send them, receive their results, write the results."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from pawqueue.files import FoundFile
from pawqueue.folder import FolderRun, Plan
from pawqueue.progress import looking, reporting
from pawqueue.results import ResultsFile, part_of
from pawqueue.run_state import RunState
from pawqueue.scan import compare, remember
from pawqueue.sources import MissingSourceError, find_sources
from pawqueue.submissions import Submissions
from pawqueue.tally import Tally
from pawqueue.truth import Comparison
from pawqueue.wire import Wire


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says of the run itself."""

    sources: tuple[str, ...]
    out: Path
    form: str | None
    name: str
    queue: str
    concurrency: int
    every_file: bool
    null: bool
    give_up_after_s: float
    quiet: bool

    def files(self) -> Iterator[FoundFile]:
        """What is to be sent; never the results themselves, which may lie in the folder."""
        own = {path.name: path.resolve() for path in own_files(self.out)}
        separator = b"\0" if self.null else b"\n"
        for file in find_sources(self.sources, every_file=self.every_file, stdin=sys.stdin.buffer, separator=separator):
            if file.path.name not in own or file.path.resolve() != own[file.path.name]:
                yield file


def own_files(out: Path) -> list[Path]:
    """What a run writes beside its results, and these themselves."""
    memory = state_path(out)
    return [out, part_of(out), memory, memory.with_name(f"{memory.name}-journal")]


def state_path(out: Path) -> Path:
    """Where a run is remembered while it is not complete."""
    return out.with_name(f"{out.name}.run")


@contextmanager
def remembering(path: Path) -> Iterator[RunState]:
    """Open the memory of a run; one of a run that never came to sending anything does not stay."""
    with RunState(path) as state:
        try:
            yield state
        finally:
            if not state.is_removed and state.noted("submission") is None:
                state.remove()


class Run:
    """One run of the command over the files that `state` remembers."""

    def __init__(self, options: RunOptions, state: RunState, wire: Wire, console: Console) -> None:
        self._options = options
        self._state = state
        self._submissions = Submissions(wire)
        self._console = console
        self.tally = Tally(0)

    def collect(self) -> int:
        """Find the files, and of an interrupted run what is left to do; how many files there are.

        Raises:
            UsageError: an argument names nothing that is there.
        """
        with looking(self._console, self._options.files(), quiet=self._options.quiet) as files:
            try:
                (compare if self._state.total() else remember)(self._state, files)
            except MissingSourceError as error:
                raise click.UsageError(str(error)) from error
        self.tally = Tally(self._state.total())
        for entry, row in self._state.rows():
            self.tally.add(entry.index, row)
        self.tally.begin()
        return self.tally.total

    def receive(self) -> None:
        """Send and receive until every file has a result.

        Raises what `FolderRun.results` raises.
        """
        options = self._options
        name = options.name or Path(options.sources[0]).name
        run = FolderRun(
            self._submissions, self._state, Plan(name, options.queue, options.give_up_after_s, options.concurrency)
        )
        with reporting(self._console, self.tally, quiet=options.quiet) as report, _stopping(run):
            for result in run.results():
                if result:
                    self.tally.add(*result)
                self.tally.sent = run.sent
                report()
        self.tally.submission_id = self._state.noted("submission") or ""

    def write(self) -> None:
        """Write a row for every file that has a result, in the order found."""
        ndjson = None if self._options.form is None else self._options.form == "ndjson"
        with ResultsFile(self._options.out, ndjson=ndjson) as out:
            for _, row in self._state.rows():
                out.add(row)

    def compare(self) -> Comparison:
        """Hold the labels against the names of the folders."""
        comparison = Comparison(json.loads(self._state.noted("labels") or "[]"))
        for entry, row in self._state.rows():
            comparison.add(entry.path, row.file, row.label, row.confidence)
        return comparison


@contextmanager
def _stopping(run: FolderRun) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the run in order, and the second at once."""

    def stop(*_: object) -> None:
        restore()
        run.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield
    finally:
        restore()
