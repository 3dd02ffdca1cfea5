"""`pawqueue submit`: classifies folders and files into a results file."""

import errno
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pawqueue.bulk.accuracy import Comparison
from pawqueue.bulk.files import (
    ENDINGS,
    FoundFile,
    MissingSourceError,
    count_skipped,
    find_sources,
    folder_name,
    listed_files,
    skipped_text,
)
from pawqueue.bulk.results import ResultsFile, part_of
from pawqueue.bulk.run import BulkOptions, BulkRun, Progress, Result, Skipped
from pawqueue.bulk.state import RunState
from pawqueue.cli.app import INTERRUPTED, is_disk_full
from pawqueue.cli.display import escaped
from pawqueue.cli.options import gateway_options, model_options
from pawqueue.cli.progress import counting, reporting
from pawqueue.cli.report import Tally, show_accuracy, show_report
from pawqueue.client.client import BULK, INTERACTIVE
from pawqueue.client.connection import Connection
from pawqueue.client.deadline import Deadline
from pawqueue.client.errors import ClientError
from pawqueue.client.jobs import JobOptions
from pawqueue.client.status import wait_until_reachable

#: How long to wait for a gateway that is still starting.
_REACHABLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line."""

    sources: tuple[str, ...]
    from_list: Path | None
    out: Path
    form: str | None
    name: str
    queue: str
    model: str
    top_k: int | None
    webhook: str
    concurrency: int
    every_file: bool
    null: bool
    give_up_after_s: float
    quiet: bool
    resume: bool
    label_from_folder: bool
    as_json: bool
    #: Files of folders that are not sent, by extension.
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def state_file(self) -> Path:
        """The file with the state of the run until it is complete."""
        return self.out.with_name(f"{self.out.name}.run")

    def bulk_options(self) -> BulkOptions:
        """The options of the run itself."""
        name = self.name or folder_name(self.sources[0] if self.sources else str(self.from_list))
        jobs = JobOptions(self.queue, self.model, self.top_k, self.webhook)
        return BulkOptions(name, jobs, self.give_up_after_s, self.concurrency)

    def files(self) -> Iterator[FoundFile]:
        """The files to send, without those that the command itself writes."""
        journal = self.state_file.with_name(f"{self.state_file.name}-journal")
        own = {path.name: path.resolve() for path in (self.out, part_of(self.out), self.state_file, journal)}
        separator = b"\0" if self.null else b"\n"

        def is_own(path: Path) -> bool:
            return path.name in own and path.resolve() == own[path.name]

        def skip(path: Path) -> None:
            if not is_own(path):
                count_skipped(self.skipped, path)

        for file in find_sources(
            self.sources, every_file=self.every_file, on_skip=skip, stdin=sys.stdin.buffer, separator=separator
        ):
            if file.address or not is_own(file.path):
                yield file
        if self.from_list:
            with self.from_list.open("rb") as names:
                yield from listed_files(names, separator)


@click.command(short_help="Classify a folder of images into a results file.")
@click.argument("sources", metavar="FOLDER|FILE|PATTERN|ADDRESS|-...", nargs=-1)
@click.option(
    "--from-list",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with one address or file name per line.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The results file: NDJSON if it ends in .ndjson or .jsonl, else CSV.",
)
@click.option("--format", "form", type=click.Choice(["csv", "ndjson"]), help="Default: by the file extension of --out.")
@click.option("--resume", is_flag=True, help="Resume an interrupted run: send only what is missing.")
@click.option("--label-from-folder", is_flag=True, help="Report the accuracy; folder names are the true labels.")
@click.option("--name", default="", help="Name of the submission. Default: the name of the first argument.")
@click.option(
    "--queue",
    type=click.Choice([BULK, INTERACTIVE]),
    default=BULK,
    show_default=True,
    help="Images in the interactive queue are processed first.",
)
@model_options
@click.option(
    "--webhook",
    default="",
    metavar="URL",
    help="Receives one event when all images are finished. Default: the webhook of the API key, if it has one.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 32),
    default=4,
    show_default=True,
    help="Requests in progress at the same time.",
)
@click.option(
    "--all", "every_file", is_flag=True, help="Send every file of a folder, not only those with an image extension."
)
@click.option("-0", "--null", "null", is_flag=True, help="Names on standard input end in NUL (find -print0).")
@click.option(
    "--give-up-after",
    "give_up_after_s",
    type=click.FloatRange(min=0.1),
    default=120.0,
    show_default=True,
    help="Fail after this many seconds without progress.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@gateway_options
def submit(url: str, api_key: str | None, **values: Any) -> int:
    """Classify images and write a results file with one row per image, sorted by name.

    Folders include their subfolders: all jpg, jpeg, png, webp, heic, heif, hif, avif, bmp, gif, tif and tiff
    files that are not hidden. Patterns in quotes are expanded; - reads file names from standard input, one per line.
    Images at an address (https://..., or all that begin with s3://BUCKET/PREFIX) are fetched by the service, if its
    operator allows it. All images are sent as one submission, and the service finishes it even if this command is
    interrupted.

    Until a run is complete, its state is in OUT.run. After Ctrl-C, a crash or a lost connection, run the same command
    with --resume: images that were already sent are not sent again unless they have changed.
    CSV cells that a spreadsheet would run as a formula start with an apostrophe.

    Exit code: 0 if every image has a prediction, 1 if only some have one, 2 if none has or the gateway is unreachable,
    130 after Ctrl-C.

    \b
    Examples:
      pawqueue submit photos --out results.csv
      pawqueue submit photos --out results.csv --resume
      pawqueue submit 'photos/**/*.png' cat.jpg --out some.ndjson
      find photos -mtime -1 -print0 | pawqueue submit -0 - --out new.csv
      pawqueue submit s3://photos/2026 --out results.csv
      pawqueue submit --from-list urls.txt --out results.csv
      pawqueue submit photos --model birds --out birds.csv
      pawqueue submit photos --webhook https://example.org/hooks --out results.csv
      pawqueue submit test-set --out results.csv --label-from-folder
      pawqueue submit photos --out results.csv --quiet --json | jq .labels
    """  # noqa: D301 - click needs the character
    arguments = Arguments(**values)
    if not arguments.sources and not arguments.from_list:
        raise click.UsageError("Name a folder, files or addresses, or a list of them with --from-list.")
    if arguments.resume and arguments.out.exists() and not arguments.state_file.exists():
        out = escaped(str(arguments.out))
        click.echo(f"Nothing to resume: {out} is complete. To run again, omit --resume.", err=True)
        return 0
    if not arguments.out.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(arguments.out))
    if not arguments.resume:
        _discard_state(arguments.state_file)
    connection = Connection(url, api_key)
    with BulkRun(connection, arguments.state_file, arguments.bulk_options()) as run:
        return _run(arguments, connection, run)


def _discard_state(state_file: Path) -> None:
    # A run that was started on a full disk leaves an empty file.
    existed = state_file.exists() and state_file.stat().st_size > 0
    RunState(state_file).delete()
    if existed:
        click.echo("Discarded the interrupted run and started a new one. Use --resume to resume a run.", err=True)


def _run(arguments: Arguments, connection: Connection, run: BulkRun) -> int:
    console = Console(stderr=True)
    tally = Tally(_add_files(arguments, run, console), skipped_files=arguments.skipped)
    if not tally.total:
        skipped = f"; {skipped_text(tally.skipped_files)}" if tally.skipped_files else ""
        raise click.UsageError(
            f"No images found (looked for {' '.join(ENDINGS)}){skipped}. Use --all to send every file."
        )
    wait_until_reachable(connection, Deadline(min(_REACHABLE_S, arguments.give_up_after_s)))
    failure: BaseException | None = None
    try:
        _follow(arguments, run, tally, console)
    except (ClientError, KeyboardInterrupt) as error:
        failure = error
    tally.submission_id = run.submission_id or ""
    _write_results(arguments, run)
    _report(arguments, run, tally)
    return tally.exit_code if failure is None else _explain(failure, arguments, tally)


def _add_files(arguments: Arguments, run: BulkRun, console: Console) -> int:
    with counting(console, arguments.files(), quiet=arguments.quiet) as files:
        try:
            return run.add(files)
        except MissingSourceError as error:
            raise click.UsageError(str(error)) from error


def _follow(arguments: Arguments, run: BulkRun, tally: Tally, console: Console) -> None:
    with reporting(console, tally, quiet=arguments.quiet) as report, _stopped_by_signals(run):
        for event in run.events():
            match event:
                case Skipped(index, row):
                    tally.skip(index, row)
                case Result(index, row):
                    tally.add(index, row)
                case Progress(accepted):
                    tally.accepted = accepted
            report()


@contextmanager
def _stopped_by_signals(run: BulkRun) -> Iterator[None]:
    """Stop the run cleanly on the first Ctrl-C or SIGTERM; the second one aborts it."""

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


def _write_results(arguments: Arguments, run: BulkRun) -> None:
    ndjson = None if arguments.form is None else arguments.form == "ndjson"
    try:
        with ResultsFile(arguments.out, ndjson=ndjson) as out:
            for _, row in run.rows():
                out.add(row)
    except OSError as error:
        remedy = "Free some space" if is_disk_full(error) else "Make it writable"
        raise ClientError(
            f"{escaped(str(arguments.out))} cannot be written: {error.strerror}. "
            f"The results are kept in {escaped(str(arguments.state_file))}. "
            f"{remedy}, then run the same command with --resume."
        ) from error


def _report(arguments: Arguments, run: BulkRun, tally: Tally) -> None:
    comparison: Comparison | None = None
    if arguments.label_from_folder:
        comparison = Comparison(run.labels)
        for path, row in run.rows():
            comparison.add(path, row.file, row.label, row.confidence)
    if arguments.as_json:
        truth = {"truth": comparison.to_dict()} if comparison else {}
        click.echo(json.dumps(tally.to_dict(arguments.out) | truth, indent=2))
    elif not arguments.quiet:
        show_report(Console(), tally, arguments.out)
        if comparison:
            show_accuracy(Console(), comparison)


def _explain(failure: BaseException, arguments: Arguments, tally: Tally) -> int:
    """Print why the run stopped, how many results it has, and how to resume it; returns the exit code."""
    out = escaped(str(arguments.out))
    kept = f"{tally.done:,} of {tally.total:,} results are in {out}." if tally.done else "No results were received."
    interrupted = isinstance(failure, KeyboardInterrupt)
    reason = "Interrupted." if interrupted else f"Gave up: {failure}"
    click.echo(f"{reason} {kept} To resume, run the same command with --resume.", err=True)
    return INTERRUPTED if interrupted else 2
