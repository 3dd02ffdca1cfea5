"""`pawqueue submit`: pictures in, a CSV file out."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pawqueue.cli import INTERRUPTED
from pawqueue.commands.options import api_key, json_option, url_option
from pawqueue.deadline import Deadline
from pawqueue.display import show_run
from pawqueue.errors import ClientError
from pawqueue.files import ENDINGS, FoundFile, find_files
from pawqueue.folder import FolderRun
from pawqueue.jobs import Jobs
from pawqueue.progress import reporting
from pawqueue.results import ResultsFile, part_of
from pawqueue.tally import Tally
from pawqueue.text import shown
from pawqueue.wire import Wire

#: How long a gateway that is just starting is waited for.
_GREET_S = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    sources: tuple[Path, ...]
    out: Path
    url: str
    concurrency: int
    give_up_after_s: float
    every_file: bool
    quiet: bool
    as_json: bool

    def files(self) -> Iterator[FoundFile]:
        """What is to be sent; never the results themselves, which may lie in the folder."""
        own = {path.name: path.resolve() for path in (self.out, part_of(self.out))}
        for file in find_files(self.sources, every_file=self.every_file):
            if file.path.name not in own or file.path.resolve() != own[file.path.name]:
                yield file


@click.command(short_help="Classify a folder of pictures into a CSV file.")
@click.argument(
    "sources", metavar="FOLDER_OR_FILES...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The CSV file to write.")
@url_option
@click.option(
    "--concurrency", type=click.IntRange(1, 512), default=64, show_default=True, help="Pictures under way at once."
)
@click.option("--all", "every_file", is_flag=True, help="Send every file of a folder, whatever its name ends in.")
@click.option(
    "--give-up-after",
    "give_up_after_s",
    type=click.FloatRange(min=0.1),
    default=120.0,
    show_default=True,
    help="Seconds without any progress (gateway away or busy) after which the run ends.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@json_option
def submit(**values: Any) -> int:
    """Classify the pictures of a folder, or single files, and write a row for each to a CSV file.

    A folder is walked with all below it; its jpg, jpeg, png, webp, bmp, gif, tif and tiff files are sent, hidden ones
    are not. Rows are written as the answers come; Ctrl-C keeps them. Text that a spreadsheet would run as a formula
    gets an apostrophe before it.

    Exit code: 0 when every file has a prediction, 1 when some have, 2 when none has or the gateway stayed away, 130
    after Ctrl-C.

    \b
    Examples:
      pawqueue submit photos --out results.csv
      pawqueue submit cat.jpg dog.png --out two.csv
      pawqueue submit photos --out results.csv --url http://10.0.0.5:8000 --concurrency 64
      pawqueue submit photos --out results.csv --quiet --json | jq .labels
    """  # noqa: D301 - click needs the character
    options = Options(**values)
    total = sum(1 for _ in options.files())
    if not total:
        raise click.UsageError(f"There is no picture to send; looked for {' '.join(ENDINGS)}. --all sends every file.")
    jobs = Jobs(Wire(options.url, api_key()))
    jobs.greet(Deadline(min(_GREET_S, options.give_up_after_s)))
    return _run(options, jobs, Tally(total))


def _run(options: Options, jobs: Jobs, tally: Tally) -> int:
    ending: BaseException | None = None
    try:
        _receive(
            options, FolderRun(jobs, concurrency=options.concurrency, give_up_after_s=options.give_up_after_s), tally
        )
    except (ClientError, KeyboardInterrupt) as error:
        ending = error
    _show(options, tally)
    return tally.exit_code if ending is None else _explain(ending, options, tally)


def _receive(options: Options, run: FolderRun, tally: Tally) -> None:
    console = Console(stderr=True)
    with ResultsFile(options.out) as out, reporting(console, tally, quiet=options.quiet) as report, _stopping(run):
        for file, row in run.results(options.files()):
            out.add(row)
            tally.add(file, row)
            report()


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


def _show(options: Options, tally: Tally) -> None:
    if options.as_json:
        click.echo(json.dumps(tally.to_dict(options.out), indent=2))
    elif not options.quiet:
        show_run(Console(), tally, options.out)


def _explain(ending: BaseException, options: Options, tally: Tally) -> int:
    """Say in one sentence why the run ended early and what is left of it."""
    kept = (
        f"{tally.done:,} of {tally.total:,} files are in {shown(str(options.out))}."
        if tally.done
        else "Nothing was received."
    )
    if isinstance(ending, KeyboardInterrupt):
        click.echo(f"Interrupted: {kept}", err=True)
        return INTERRUPTED
    click.echo(f"Gave up: {ending} {kept}", err=True)
    return 2
