"""`pawqueue fetch`: the results of submissions and jobs, as CSV or NDJSON."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from contract.job import Job, JobStatus
from pawqueue.commands.options import gateway_options
from pawqueue.deadline import Deadline
from pawqueue.lookup import Lookup
from pawqueue.reading import read_results
from pawqueue.results import ResultsFile, Row, RowWriter, is_ndjson, row_of
from pawqueue.wire import Wire

_TIMEOUT_S = 60.0
_STATUSES = [str(status) for status in JobStatus]


@click.command(short_help="Fetch the results of submissions or jobs.")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write; without it, standard output."
)
@click.option(
    "--format", "form", type=click.Choice(["csv", "ndjson"]), help="Default: by the ending of --out, else CSV."
)
@click.option("--status", "statuses", multiple=True, type=click.Choice(_STATUSES), help="Only these; may be repeated.")
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
    """Write the results of the submissions and jobs ID..., a row each; also of submissions that still run.

    Without --status, images that have no result yet are left out. --json is --format ndjson. Results are kept by the
    service for a while only, a day unless set otherwise.

    Exit code: 0 when something was written, 1 when there was nothing, 2 when it could not be asked for.

    \b
    Examples:
      pawqueue fetch 019abc12-3456-7890-abcd-ef0123456789 --out results.csv
      pawqueue fetch 019abc12-3456-7890-abcd-ef0123456789 --status failed
      pawqueue fetch 019abc12-3456-7890-abcd-ef0123456789 --json | jq -r 'select(.label == "cat").file'
    """  # noqa: D301 - click needs the character
    lookup = Lookup(Wire(url, api_key))
    ndjson = form == "ndjson" if form else as_json or (out is not None and is_ndjson(out))
    rows = (row for any_id in ids for row in _rows(lookup, any_id, statuses))
    return 0 if _write(rows, out, ndjson=ndjson) else 1


def _rows(lookup: Lookup, any_id: str, statuses: tuple[str, ...]) -> Iterator[Row]:
    found = lookup.get(any_id, Deadline(_TIMEOUT_S))
    if not isinstance(found, Job):
        yield from read_results(lookup.submissions, any_id, Deadline(_TIMEOUT_S), statuses)
    elif found.status in statuses if statuses else found.status.is_final:
        yield row_of(found.file, found)


def _write(rows: Iterable[Row], out: Path | None, *, ndjson: bool) -> int:
    if out is None:
        writer, written = RowWriter(sys.stdout, ndjson=ndjson), 0
        for written, row in enumerate(rows, 1):  # noqa: B007 - the last one is how many there were
            writer.add(row)
        return written
    with ResultsFile(out, ndjson=ndjson) as file:
        for row in rows:
            file.add(row)
    return file.rows
