"""`pawqueue submit`: images in, a file of results out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pawqueue.cli import INTERRUPTED
from pawqueue.client import BULK, INTERACTIVE
from pawqueue.commands.options import gateway_options
from pawqueue.commands.run import Run, RunOptions, remembering, state_path
from pawqueue.deadline import Deadline
from pawqueue.display import show_run
from pawqueue.display_truth import show_truth
from pawqueue.errors import ClientError
from pawqueue.files import ENDINGS
from pawqueue.jobs import Jobs
from pawqueue.run_state import RunState
from pawqueue.text import shown
from pawqueue.wire import Wire

#: How long a gateway that is just starting is waited for.
_GREET_S = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    run: RunOptions
    url: str
    api_key: str | None
    resume: bool
    label_from_folder: bool
    as_json: bool


@click.command(short_help="Classify a folder of images into a file of results.")
@click.argument("sources", metavar="FOLDER|FILE|PATTERN|-...", nargs=-1, required=True)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; its ending decides: .ndjson or .jsonl, else CSV.",
)
@click.option("--format", "form", type=click.Choice(["csv", "ndjson"]), help="The form of the file, whatever its name.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run: send only what is missing.")
@click.option("--label-from-folder", is_flag=True, help="Compare with the truth: images in cats/ are cats.")
@click.option("--name", default="", help="Name of the submission, for people.")
@click.option("--queue", type=click.Choice([BULK, INTERACTIVE]), default=BULK, show_default=True, help="Where to wait.")
@click.option(
    "--concurrency", type=click.IntRange(1, 32), default=4, show_default=True, help="Requests under way at once."
)
@click.option("--all", "every_file", is_flag=True, help="Send every file of a folder, whatever its name ends in.")
@click.option("-0", "--null", "null", is_flag=True, help="Names on standard input end in NUL (find -print0).")
@click.option(
    "--give-up-after",
    "give_up_after_s",
    type=click.FloatRange(min=0.1),
    default=120.0,
    show_default=True,
    help="Seconds without any progress (gateway away or busy) after which the run ends.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@gateway_options
def submit(
    url: str, api_key: str | None, *, resume: bool, label_from_folder: bool, as_json: bool, **values: Any
) -> int:
    """Classify images and write a row for each to a file, in the order of their names.

    A folder is walked with all below it; its jpg, jpeg, png, webp, bmp, gif, tif and tiff files are sent, hidden ones
    are not. A pattern in quotes is resolved here; - reads names from standard input, one a line. Everything is sent as
    one submission, which goes on at the service whatever becomes of this command.

    While a run is not complete, OUT.run lies beside the results and remembers it. After Ctrl-C, a crash or a lost
    connection the same command with --resume goes on: what was sent is not sent again, unless its content has changed.
    In a CSV file, text that a spreadsheet would run as a formula gets an apostrophe before it.

    Exit code: 0 when every file has a prediction, 1 when some have, 2 when none has or the gateway stayed away, 130
    after Ctrl-C.

    \b
    Examples:
      pawqueue submit photos --out results.csv
      pawqueue submit photos --out results.csv --resume
      pawqueue submit 'photos/**/*.png' cat.jpg --out some.ndjson
      find photos -mtime -1 -print0 | pawqueue submit -0 - --out new.csv
      pawqueue submit test-set --out results.csv --label-from-folder
      pawqueue submit photos --out results.csv --quiet --json | jq .labels
    """  # noqa: D301 - click needs the character
    options = Options(RunOptions(**values), url, api_key, resume, label_from_folder, as_json)
    memory = state_path(options.run.out)
    if resume and options.run.out.exists() and not memory.exists():
        ended = f"{shown(str(options.run.out))} is of a run that came to its end"
        click.echo(f"Nothing to resume: {ended}. Without --resume a new one begins.", err=True)
        return 0
    _check_place(options.run.out)
    if not resume:
        _begin_anew(memory)
    with remembering(memory) as state:
        return _run(options, state)


def _run(options: Options, state: RunState) -> int:
    wire = Wire(options.url, options.api_key)
    run = Run(options.run, state, wire, Console(stderr=True))
    if not run.collect():
        raise click.UsageError(f"There is no image to send; looked for {' '.join(ENDINGS)}. --all sends every file.")
    Jobs(wire).greet(Deadline(min(_GREET_S, options.run.give_up_after_s)))
    ending: BaseException | None = None
    try:
        run.receive()
    except (ClientError, KeyboardInterrupt) as error:
        ending = error
    run.write()
    _show(options, run)
    if run.tally.done == run.tally.total:
        state.remove()
    return run.tally.exit_code if ending is None else _explain(ending, options, run)


def _begin_anew(memory: Path) -> None:
    if memory.exists():
        click.echo(
            "A run that was interrupted here is given up, and all is sent anew; --resume goes on with one.", err=True
        )
    RunState(memory).remove()


def _check_place(out: Path) -> None:
    if not out.parent.is_dir():
        raise FileNotFoundError(2, "No such file or directory", str(out))


def _show(options: Options, run: Run) -> None:
    comparison = run.compare() if options.label_from_folder else None
    if options.as_json:
        truth = {"truth": comparison.to_dict()} if comparison else {}
        click.echo(json.dumps(run.tally.to_dict(options.run.out) | truth, indent=2))
    elif not options.run.quiet:
        show_run(Console(), run.tally, options.run.out)
        if comparison:
            show_truth(Console(), comparison)


def _explain(ending: BaseException, options: Options, run: Run) -> int:
    """Say in one sentence why the run ended early, what is left of it, and how to go on."""
    out, tally = shown(str(options.run.out)), run.tally
    kept = f"{tally.done:,} of {tally.total:,} files are in {out}." if tally.done else "Nothing was received."
    going_on = "The same command with --resume goes on."
    if isinstance(ending, KeyboardInterrupt):
        click.echo(f"Interrupted: {kept} {going_on}", err=True)
        return INTERRUPTED
    click.echo(f"Gave up: {ending} {kept} {going_on}", err=True)
    return 2
