"""`pawqueue watch`: a submission or the whole service, live."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console, RenderableType
from rich.live import Live

from pawqueue.commands.options import gateway_options
from pawqueue.deadline import Deadline
from pawqueue.display_submission import show_submission, submission_line, submission_panel
from pawqueue.display_watch import service_line, service_panel
from pawqueue.errors import RefusedError
from pawqueue.service import ServiceState, look_at_service
from pawqueue.submission import Submission
from pawqueue.submissions import Submissions
from pawqueue.wire import Wire

#: How long a gateway that does not answer is waited for: at first, when the address may be wrong, and later.
_FIRST_PATIENCE_S = 5.0
_PATIENCE_S = 60.0
_LATEST = 5
_Show = Callable[[RenderableType, str, dict[str, object]], None]


@click.command(short_help="Watch a submission or the service, live.")
@click.argument("submission_id", metavar="[SUBMISSION]", required=False)
@click.option(
    "--interval", "interval_s", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="Seconds a look."
)
@click.option("--once", is_flag=True, help="Look once and end.")
@gateway_options
def watch(
    submission_id: str | None, interval_s: float, url: str, api_key: str | None, *, once: bool, as_json: bool
) -> int:
    """Show how a submission goes on until it has ended, or without an id the service, until Ctrl-C.

    On a terminal the image changes in place; elsewhere a line is printed for each look, with --json a JSON object.

    Exit code: 0 when the submission has ended and all of it succeeded, 1 when some of it did not, 2 when it could not
    be asked for, 130 after Ctrl-C.

    \b
    Examples:
      pawqueue watch
      pawqueue watch 019abc12-3456-7890-abcd-ef0123456789
      pawqueue watch --once --json | jq .queued
    """  # noqa: D301 - click needs the character
    console = Console()
    wire = Wire(url, api_key)
    with _showing(console, as_json=as_json) as show:
        if not submission_id:
            _watch_service(wire, show, interval_s, once=once)
            return 0
        submission = _watch_submission(wire, submission_id, show, interval_s, once=once)
    if not as_json and console.is_terminal:
        show_submission(console, submission)
    return 0 if submission.ended == submission.counts.succeeded else 1


@contextmanager
def _showing(console: Console, *, as_json: bool) -> Iterator[_Show]:
    if as_json:
        yield lambda _panel, _line, values: click.echo(json.dumps(values))
    elif not console.is_terminal:
        yield lambda _panel, line, _values: click.echo(line)
    else:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield lambda panel, _line, _values: live.update(panel, refresh=True)


def _watch_submission(wire: Wire, submission_id: str, show: _Show, interval_s: float, *, once: bool) -> Submission:
    submissions, patience_s = Submissions(wire), _FIRST_PATIENCE_S
    while True:
        submission = submissions.get(submission_id, Deadline(patience_s))
        patience_s = _PATIENCE_S
        show(submission_panel(submission), submission_line(submission), submission.to_dict())
        if once or submission.status.is_final:
            return submission
        Deadline(interval_s * 2).pause(interval_s)


def _watch_service(wire: Wire, show: _Show, interval_s: float, *, once: bool) -> None:
    before: ServiceState | None = None
    while True:
        now = look_at_service(wire, Deadline(_PATIENCE_S if before else _FIRST_PATIENCE_S))
        latest = _latest(wire) if now.ledger_up else []
        values: dict[str, object] = {
            **now.to_dict(),
            "images_per_s": now.rate_since(before),
            "submissions": [submission.to_dict() for submission in latest],
        }
        show(service_panel(now, before, latest, wire.url), service_line(now, before), values)
        if once:
            return
        before = now
        Deadline(interval_s * 2).pause(interval_s)


def _latest(wire: Wire) -> list[Submission]:
    """The caller's own; none where a key may not read them."""
    try:
        return Submissions(wire).latest(_LATEST, Deadline(_PATIENCE_S))
    except RefusedError:
        return []
