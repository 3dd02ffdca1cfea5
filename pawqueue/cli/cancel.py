"""`pawqueue cancel`: cancels unfinished jobs and submissions."""

import json

import click

from contract.job import JobStatus
from contract.submission import SubmissionStatus
from pawqueue.cli.display import counts_text
from pawqueue.cli.options import gateway_options
from pawqueue.client.client import Pawqueue
from pawqueue.client.submissions import Submission

_TIMEOUT_S = 60.0


@click.command(short_help="Cancel unfinished jobs or submissions.")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@gateway_options
def cancel(ids: tuple[str, ...], url: str, api_key: str | None, *, as_json: bool) -> int:
    """Cancel jobs and submissions by ID. Jobs that have already finished do not change.

    Exit code: 0 if all are canceled, 1 if one of them had already finished, 2 on errors.

    \b
    Examples:
      pawqueue cancel 019abc12-3456-7890-abcd-ef0123456789
      pawqueue cancel --json 019abc12-3456-7890-abcd-ef0123456789
    """  # noqa: D301 - click needs the character
    with Pawqueue(url, api_key, timeout_s=_TIMEOUT_S) as client:
        found = [client.cancel(any_id) for any_id in ids]
    if as_json:
        click.echo(json.dumps([item.to_dict() for item in found], indent=2))
    else:
        for item in found:
            counts = f"  {counts_text(item.counts)}" if isinstance(item, Submission) else ""
            click.echo(f"{item.id}  {item.status}{counts}")
    return 0 if all(item.status in (JobStatus.CANCELED, SubmissionStatus.CANCELED) for item in found) else 1
