"""`pawqueue status`: shows one job or submission."""

import json

import click
from rich.console import Console

from contract.job import Job, JobStatus
from pawqueue.cli.display import show_job, show_submission
from pawqueue.cli.options import gateway_options
from pawqueue.client.client import Pawqueue
from pawqueue.client.errors import TimedOutError
from pawqueue.client.submissions import Submission

_TIMEOUT_S = 10.0


@click.command(short_help="Show a job or a submission.")
@click.argument("any_id", metavar="ID")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), default=0.0, help="Seconds to wait for it to finish.")
@gateway_options
def status(any_id: str, wait_s: float, url: str, api_key: str | None, *, as_json: bool) -> int:
    """Show a job or submission: its status, its result or error, and its timings.

    Exit code: 0 if it succeeded or is still running, 1 if an image has no prediction or if it did not finish within
    --wait, 2 on errors.

    \b
    Examples:
      pawqueue status 019abc12-3456-7890-abcd-ef0123456789
      pawqueue status 019abc12-3456-7890-abcd-ef0123456789 --wait 60
      pawqueue status 019abc12-3456-7890-abcd-ef0123456789 --json | jq .counts
    """  # noqa: D301 - click needs the character
    with Pawqueue(url, api_key, timeout_s=_TIMEOUT_S) as client:
        found = _find(client, any_id, wait_s)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    elif isinstance(found, Job):
        show_job(Console(), found)
    else:
        show_submission(Console(), found)
    return _exit_code(found, waited=wait_s > 0)


def _find(client: Pawqueue, any_id: str, wait_s: float) -> Job | Submission:
    found = client.find(any_id)
    if not wait_s:
        return found
    try:
        return client.wait(found, timeout_s=wait_s)
    except TimedOutError as error:
        return error.job or error.submission or found


def _exit_code(found: Job | Submission, *, waited: bool) -> int:
    if waited and not found.status.is_final:
        return 1
    if isinstance(found, Job):
        return 0 if found.status is JobStatus.SUCCEEDED or not found.status.is_final else 1
    return 0 if found.ended == found.counts.succeeded else 1
