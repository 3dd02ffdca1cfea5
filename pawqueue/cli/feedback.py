"""`pawqueue feedback`: reports the right labels of images."""

import csv
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from pawqueue.cli.options import gateway_options
from pawqueue.client.client import Pawqueue
from pawqueue.client.errors import RefusedError

_TIMEOUT_S = 60.0
_THREADS = 8
_JOB, _LABEL = "job_id", "right_label"


@dataclass(frozen=True)
class _Reported:
    line: int
    #: Whether the prediction was right; None if the gateway rejected the label.
    correct: bool | None
    problem: str = ""


@click.command(short_help="Report the right labels of images.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@gateway_options
def feedback(file: Path, url: str, api_key: str | None, *, as_json: bool) -> int:
    """Report the right labels of images, from a CSV file with the columns job_id and right_label.

    A results file of `pawqueue submit` has the column job_id: add a column right_label to it, and fill it in where you
    know what an image shows. Rows without a right label are skipped. The label that you report last for an image
    counts. `pawqueue models report` shows the accuracy.

    Exit code: 0 if all labels were recorded, 1 if some were rejected, 2 on errors.

    \b
    Examples:
      pawqueue feedback checked.csv
    """  # noqa: D301 - click needs the character
    rows = list({row[1]: row for row in _rows(file)}.values())  # the last label of each job
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


def _rows(file: Path) -> Iterator[tuple[int, str, str]]:
    """The line number, job id and right label of each row that has a label."""
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        missing = [name for name in (_JOB, _LABEL) if name not in (reader.fieldnames or ())]
        if missing:
            raise click.UsageError(f"{file} has no column {' and no column '.join(missing)}. See --help.")
        for row in reader:
            if label := (row[_LABEL] or "").strip():
                yield reader.line_num, (row[_JOB] or "").strip(), label


def _report(client: Pawqueue, line: int, job_id: str, label: str) -> _Reported:
    try:
        return _Reported(line, client.feedback(job_id, label))
    except RefusedError as error:
        if error.status not in (400, 404, 409):
            raise
        return _Reported(line, None, str(error))
