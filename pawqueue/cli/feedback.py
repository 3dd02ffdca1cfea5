"""`pawqueue feedback`: reports the right labels of images, and exports the images that were reviewed."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath

import click
from rich.console import Console
from rich.progress import track

from pawqueue.bulk.export import Exported, ExportFolder
from pawqueue.cli.options import gateway_options
from pawqueue.client.client import Pawqueue
from pawqueue.client.errors import RefusedError

_TIMEOUT_S = 60.0
_THREADS = 8
_JOB, _LABEL, _FILE = "job_id", "right_label", "file"
#: The command if the first argument is a file.
_DEFAULT = "send"


@dataclass(frozen=True)
class _Reported:
    line: int
    #: Whether the prediction was right; None if the gateway rejected the label.
    correct: bool | None
    problem: str = ""


class FeedbackCommands(click.Group):
    """Takes a file instead of the name of a command: `pawqueue feedback checked.csv` reports its labels."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add the name of the command for a file, if it is left out."""
        is_named = not args or args[0] in self.commands or args[0] in ctx.help_option_names
        return super().parse_args(ctx, args if is_named else [_DEFAULT, *args])


@click.group(cls=FeedbackCommands, short_help="Report right labels, and export reviewed images.")
def feedback() -> None:
    """Report the right labels of images, and export the images that people reviewed.

    \b
    Examples:
      pawqueue feedback checked.csv
      pawqueue feedback export reviewed
    """  # noqa: D301 - click needs the character


@feedback.command(short_help="Report the right labels in a CSV file; `send` can be left out.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--label-from-folder", is_flag=True, help="The name of the folder of each image is its right label.")
@gateway_options
def send(file: Path, url: str, api_key: str | None, *, label_from_folder: bool, as_json: bool) -> int:
    """Report the right labels of images, from a CSV file with the columns job_id and right_label.

    A results file of `pawqueue submit` has the column job_id: add a column right_label to it, and fill it in where you
    know what an image shows. Rows without a right label are skipped. If the images are in folders with the names of the
    labels, --label-from-folder takes the label from the column file instead. The label that you report last for an
    image counts. `pawqueue models report` shows the accuracy.

    Exit code: 0 if all labels were recorded, 1 if some were rejected, 2 on errors.

    \b
    Examples:
      pawqueue feedback checked.csv
      pawqueue feedback results.csv --label-from-folder
    """  # noqa: D301 - click needs the character
    rows = list(
        {row[1]: row for row in _rows(file, label_from_folder=label_from_folder)}.values()
    )  # the last label of each job
    with Pawqueue(url, api_key, timeout_s=_TIMEOUT_S) as client, ThreadPoolExecutor(_THREADS) as pool:
        sending = pool.map(lambda row: _report(client, *row), rows)
        console = Console(stderr=True)
        done = list(track(sending, "Reporting labels", len(rows), console=console, disable=not console.is_terminal))
    rejected = [row for row in done if row.correct is None]
    right = sum(row.correct is True for row in done)
    if as_json:
        problems = [{"line": row.line, "problem": row.problem} for row in rejected]
        click.echo(json.dumps({"recorded": len(done) - len(rejected), "right": right, "rejected": problems}, indent=2))
    else:
        click.echo(f"Recorded {len(done) - len(rejected):,} labels; {right:,} predictions were right.")
        for row in rejected:
            click.echo(f"{file}, line {row.line}: {row.problem}", err=True)
    return 1 if rejected else 0


@feedback.command(short_help="Write the images that people reviewed into a folder.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@gateway_options
def export(folder: Path, url: str, api_key: str | None, *, as_json: bool) -> int:
    """Write the images that people labeled on the dashboard's Review page into FOLDER, as LABEL/JOB_ID.jpg.

    `make train DATA=FOLDER` takes such a folder. Images that are there already are not fetched again, so you can repeat
    the command. An image whose label has changed moves to the folder of the new label, and one whose label was taken
    back is deleted. No file is overwritten.

    With an API key, it needs the scope `read`, and exports the images that were sent with it; with the scope `admin`
    too, it exports those of all keys.

    Exit code: 0 if FOLDER contains all reviewed images, 1 if some could not be written, 2 on errors.

    \b
    Examples:
      pawqueue feedback export reviewed
      make train DATA='old.tar reviewed/'
    """  # noqa: D301 - click needs the character
    with Pawqueue(url, api_key, timeout_s=_TIMEOUT_S) as client, ThreadPoolExecutor(_THREADS) as pool:
        found = {image.job_id: image for image in client.reviewed(unlabeled=True)}
        images = {job_id: image for job_id, image in found.items() if image.label}
        target = ExportFolder(folder)
        removed = [result for image in found.values() if not image.label and (result := target.remove(image))]
        writing = pool.map(lambda image: target.add(image, client.review_image), images.values())
        console = Console(stderr=True)
        done = list(track(writing, "Exporting", len(images), console=console, disable=not console.is_terminal))
    counts = Counter(result.what for result in [*removed, *done])
    problems = [result.problem for result in done if result.problem]
    if as_json:
        named = {str(what): counts[what] for what in Exported}
        click.echo(json.dumps(named | {"problems": problems}, indent=2))
    else:
        click.echo(
            f"{len(done) - len(problems):,} reviewed images are in {folder}: {counts[Exported.WRITTEN]:,} new, "
            f"{counts[Exported.MOVED]:,} moved, {counts[Exported.REMOVED]:,} deleted."
            if images or removed
            else "Nobody has reviewed images yet. See the dashboard's Review page."
        )
        for problem in problems:
            click.echo(problem, err=True)
    return 1 if problems else 0


def _rows(file: Path, *, label_from_folder: bool) -> Iterator[tuple[int, str, str]]:
    """The line number, job id and right label of each row that has a label."""
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        column = _FILE if label_from_folder else _LABEL
        missing = [name for name in (_JOB, column) if name not in (reader.fieldnames or ())]
        if missing:
            raise click.UsageError(f"{file} has no column {' and no column '.join(missing)}. See --help.")
        for row in reader:
            given = (row[column] or "").strip()
            if label := PurePath(given).parent.name if label_from_folder else given:
                yield reader.line_num, (row[_JOB] or "").strip(), label


def _report(client: Pawqueue, line: int, job_id: str, label: str) -> _Reported:
    try:
        return _Reported(line, client.feedback(job_id, label))
    except RefusedError as error:
        if error.status not in (400, 404, 409):
            raise
        return _Reported(line, None, str(error))
