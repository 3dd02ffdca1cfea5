"""`pawqueue cancel`: withdraw jobs that have not ended."""

import json

import click

from contract.job import JobStatus
from pawqueue.commands.options import api_key, json_option, url_option
from pawqueue.deadline import Deadline
from pawqueue.jobs import Jobs
from pawqueue.wire import Wire

_TIMEOUT_S = 10.0


@click.command(short_help="Withdraw jobs that have not ended.")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@url_option
@json_option
def cancel(job_ids: tuple[str, ...], url: str, *, as_json: bool) -> int:
    """Cancel the jobs ID...: queued or running; one that has ended stays as it is.

    Exit code: 0 when all are canceled, 1 when one had ended otherwise, 2 when one could not be asked for.

    \b
    Examples:
      pawqueue cancel 019abc12-3456-7890-abcd-ef0123456789
      pawqueue cancel $(cut -d, -f7 results.csv | tail -n +2)
    """  # noqa: D301 - click needs the character
    jobs = Jobs(Wire(url, api_key()))
    found = [jobs.cancel(job_id, Deadline(_TIMEOUT_S)) for job_id in job_ids]
    if as_json:
        click.echo(json.dumps([job.to_dict() for job in found], indent=2))
    else:
        for job in found:
            click.echo(f"{job.id}  {job.status}")
    return 0 if all(job.status is JobStatus.CANCELED for job in found) else 1
