"""`pawqueue cancel`: withdraw jobs and submissions that have not ended."""

import json

import click

from contract.job import JobStatus
from pawqueue.commands.options import gateway_options
from pawqueue.deadline import Deadline
from pawqueue.display_submission import counts_text
from pawqueue.lookup import Lookup
from pawqueue.submission import Submission, SubmissionStatus
from pawqueue.wire import Wire

_TIMEOUT_S = 60.0


@click.command(short_help="Withdraw jobs or submissions that have not ended.")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@gateway_options
def cancel(ids: tuple[str, ...], url: str, api_key: str | None, *, as_json: bool) -> int:
    """Cancel the jobs and submissions ID...: what is queued or running; what has ended stays as it is.

    Exit code: 0 when all are canceled, 1 when one had ended otherwise, 2 when one could not be asked for.

    \b
    Examples:
      pawqueue cancel 019abc12-3456-7890-abcd-ef0123456789
      pawqueue cancel $(cut -d, -f7 results.csv | tail -n +2)
    """  # noqa: D301 - click needs the character
    lookup = Lookup(Wire(url, api_key))
    found = [lookup.cancel(any_id, Deadline(_TIMEOUT_S)) for any_id in ids]
    if as_json:
        click.echo(json.dumps([item.to_dict() for item in found], indent=2))
    else:
        for item in found:
            counts = f"  {counts_text(item.counts)}" if isinstance(item, Submission) else ""
            click.echo(f"{item.id}  {item.status}{counts}")
    return 0 if all(item.status in (JobStatus.CANCELED, SubmissionStatus.CANCELED) for item in found) else 1
