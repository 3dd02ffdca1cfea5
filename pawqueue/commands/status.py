"""`pawqueue status`: one job, for people or programs."""

import json

import click
from rich.console import Console

from contract.job import Job, JobStatus
from pawqueue.client import Pawqueue
from pawqueue.commands.options import api_key, json_option, url_option
from pawqueue.display import show_job
from pawqueue.errors import TimedOutError

_TIMEOUT_S = 10.0


@click.command(short_help="Show one job.")
@click.argument("job_id", metavar="ID")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), default=0.0, help="Seconds to wait for it to end.")
@url_option
@json_option
def status(job_id: str, wait_s: float, url: str, *, as_json: bool) -> int:
    """Show the job ID: its state, what the model said or what went wrong, and where the time went.

    Exit code: 0 when it succeeded or is on its way, 1 when it ended without a prediction or did not end within --wait,
    2 when it could not be asked for.

    \b
    Examples:
      pawqueue status 019abc12-3456-7890-abcd-ef0123456789
      pawqueue status 019abc12-3456-7890-abcd-ef0123456789 --wait 60
      pawqueue status 019abc12-3456-7890-abcd-ef0123456789 --json
    """  # noqa: D301 - click needs the character
    job = _find(job_id, wait_s, url)
    if as_json:
        click.echo(json.dumps(job.to_dict(), indent=2))
    else:
        show_job(Console(), job)
    succeeded = job.status is JobStatus.SUCCEEDED or not (job.status.is_final or wait_s)
    return 0 if succeeded else 1


def _find(job_id: str, wait_s: float, url: str) -> Job:
    with Pawqueue(url, api_key(), timeout_s=_TIMEOUT_S) as client:
        job = client.get(job_id)
        try:
            return client.wait(job, timeout_s=wait_s) if wait_s else job
        except TimedOutError as error:
            return error.job or job
