"""`pawqueue status`: one job or one submission, for people or programs."""

import json

import click
from rich.console import Console

from contract.job import Job, JobStatus
from pawqueue.commands.options import gateway_options
from pawqueue.deadline import Deadline
from pawqueue.display import show_job
from pawqueue.display_submission import show_submission
from pawqueue.errors import TimedOutError
from pawqueue.lookup import Lookup
from pawqueue.submission import Submission
from pawqueue.waiting import ended
from pawqueue.wire import Wire

_TIMEOUT_S = 10.0


@click.command(short_help="Show a job or a submission.")
@click.argument("any_id", metavar="ID")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), default=0.0, help="Seconds to wait for it to end.")
@gateway_options
def status(any_id: str, wait_s: float, url: str, api_key: str | None, *, as_json: bool) -> int:
    """Show the job or submission ID: its state, what the model said or what went wrong, and where the time went.

    Exit code: 0 when all of it succeeded or is on its way, 1 when something ended without a prediction or it did not
    end within --wait, 2 when it could not be asked for.

    \b
    Examples:
      pawqueue status 019abc12-3456-7890-abcd-ef0123456789
      pawqueue status 019abc12-3456-7890-abcd-ef0123456789 --wait 60
      pawqueue status 019abc12-3456-7890-abcd-ef0123456789 --json | jq .counts
    """  # noqa: D301 - click needs the character
    found = _find(Lookup(Wire(url, api_key)), any_id, wait_s)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    elif isinstance(found, Job):
        show_job(Console(), found)
    else:
        show_submission(Console(), found)
    return 0 if _is_well(found, waited=wait_s > 0) else 1


def _find(lookup: Lookup, any_id: str, wait_s: float) -> Job | Submission:
    found = lookup.get(any_id, Deadline(_TIMEOUT_S))
    try:
        return ended(lookup, found, Deadline(wait_s)) if wait_s else found
    except TimedOutError as error:
        return error.job or error.submission or found


def _is_well(found: Job | Submission, *, waited: bool) -> bool:
    if waited and not found.status.is_final:
        return False
    if isinstance(found, Job):
        return found.status is JobStatus.SUCCEEDED or not found.status.is_final
    return found.ended == found.counts.succeeded
