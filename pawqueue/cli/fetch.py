"""`pawqueue fetch`: writes the results of submissions and jobs as CSV or NDJSON."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from contract.job import Job, JobStatus
from contract.result_row import ResultRow
from pawqueue.bulk.results import ResultsFile, RowWriter, is_ndjson
from pawqueue.cli.options import gateway_options
from pawqueue.client.client import Pawqueue

_TIMEOUT_S = 60.0
_STATUSES = [str(status) for status in JobStatus]


@click.command(short_help="Fetch the results of submissions or jobs.")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Output file. Default: standard output.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "ndjson"]),
    help="Default: by the file extension of --out, else CSV.",
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(_STATUSES),
    help="Only images with this status; repeatable.",
)
@gateway_options
def fetch(
    ids: tuple[str, ...],
    out: Path | None,
    form: str | None,
    statuses: tuple[str, ...],
    url: str,
    api_key: str | None,
    *,
    as_json: bool,
) -> int:
    """Write one row for each finished image of the submissions and jobs with these IDs.

    Submissions may still be running. With --status, unfinished images can be selected too. --json is short for
    --format ndjson. The service deletes results after a day unless it is configured otherwise.

    Exit code: 0 if there were rows, 1 if there were none, 2 on errors.

    \b
    Examples:
      pawqueue fetch 019abc12-3456-7890-abcd-ef0123456789 --out results.csv
      pawqueue fetch 019abc12-3456-7890-abcd-ef0123456789 --status failed
      pawqueue fetch 019abc12-3456-7890-abcd-ef0123456789 --json | jq -r 'select(.label == "cat").file'
    """  # noqa: D301 - click needs the character
    ndjson = form == "ndjson" if form else as_json or (out is not None and is_ndjson(out))
    with Pawqueue(url, api_key, timeout_s=_TIMEOUT_S) as client:
        rows = (row for any_id in ids for row in _rows(client, any_id, statuses))
        return 0 if _write(rows, out, ndjson=ndjson) else 1


def _rows(client: Pawqueue, any_id: str, statuses: tuple[str, ...]) -> Iterator[ResultRow]:
    found = client.find(any_id)
    if not isinstance(found, Job):
        yield from client.results(any_id, statuses=statuses)
    elif found.status in statuses if statuses else found.status.is_final:
        yield ResultRow.of(found)


def _write(rows: Iterable[ResultRow], out: Path | None, *, ndjson: bool) -> int:
    """Write the rows and return their number."""
    if out is None:
        writer, written = RowWriter(sys.stdout, ndjson=ndjson), 0
        for row in rows:
            writer.add(row)
            written += 1
        return written
    with ResultsFile(out, ndjson=ndjson) as file:
        for row in rows:
            file.add(row)
    return file.rows
