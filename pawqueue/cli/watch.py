"""`pawqueue watch`: shows a job, a submission or the whole service, updated live."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from contract.job import Job, JobStatus
from pawqueue.cli.display import (
    escaped,
    job_line,
    show_job,
    show_submission,
    submission_line,
    submission_panel,
    submissions_table,
)
from pawqueue.cli.options import gateway_options
from pawqueue.client.client import Pawqueue
from pawqueue.client.errors import RefusedError
from pawqueue.client.status import ServiceStatus
from pawqueue.client.submissions import Submission

#: The first read has a shorter timeout than later ones, because the address may be wrong.
_FIRST_TIMEOUT_S = 5.0
_TIMEOUT_S = 60.0
_LATEST = 5
_Show = Callable[[RenderableType, str, dict[str, object]], None]


@click.command(short_help="Watch a job, a submission or the service, live.")
@click.argument("any_id", metavar="[JOB_OR_SUBMISSION]", required=False)
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="Seconds between updates of the service.",
)
@click.option("--once", is_flag=True, help="Print the state once and exit.")
@gateway_options
def watch(any_id: str | None, interval_s: float, url: str, api_key: str | None, *, once: bool, as_json: bool) -> int:
    """Show a job, or the progress of a submission, until it has finished. Without an id, show the service until Ctrl-C.

    The service sends each change as it happens; if the connection is lost, the command reconnects and continues.

    On a terminal the display is updated in place; elsewhere each update is one line, with --json a JSON object.

    Exit code: 0 if the job or every image of the submission succeeded, 1 if not, 2 on errors, 130 after Ctrl-C.

    \b
    Examples:
      pawqueue watch
      pawqueue watch 019abc12-3456-7890-abcd-ef0123456789
      pawqueue watch --once --json | jq .queued
    """  # noqa: D301 - click needs the character
    console = Console()
    with Pawqueue(url, api_key, timeout_s=_TIMEOUT_S) as client:
        with _showing(console, as_json=as_json, transient=bool(any_id)) as show:
            if not any_id:
                _watch_service(client, url, show, interval_s, once=once)
                return 0
            found = _watch(client, any_id, show, once=once)
        if not as_json and console.is_terminal:
            show_job(console, found) if isinstance(found, Job) else show_submission(console, found)
    if isinstance(found, Job):
        return 0 if found.status is JobStatus.SUCCEEDED or not found.status.is_final else 1
    return 0 if found.ended == found.counts.succeeded else 1


@contextmanager
def _showing(console: Console, *, as_json: bool, transient: bool) -> Iterator[_Show]:
    """Yield a function that shows a state; on a terminal the last state stays visible unless it is `transient`."""
    if as_json:
        yield lambda _panel, _line, values: click.echo(json.dumps(values))
    elif not console.is_terminal:
        yield lambda _panel, line, _values: click.echo(line)
    else:
        with Live(console=console, auto_refresh=False, transient=transient) as live:
            yield lambda panel, _line, _values: live.update(panel, refresh=True)


def _watch(client: Pawqueue, any_id: str, show: _Show, *, once: bool) -> Job | Submission:
    """Show each state until the job or submission has finished; returns the last one."""
    found = client.find(any_id, timeout_s=_FIRST_TIMEOUT_S)
    for state in [found] if once else client.follow(found):
        found = state
        if isinstance(state, Job):
            show(Text(job_line(state)), job_line(state), state.to_dict())
        else:
            show(submission_panel(state), submission_line(state), state.to_dict())
    return found


def _watch_service(client: Pawqueue, url: str, show: _Show, interval_s: float, *, once: bool) -> None:
    before: ServiceStatus | None = None
    while True:
        now = client.service_status(timeout_s=_TIMEOUT_S if before else _FIRST_TIMEOUT_S)
        latest = _latest(client) if now.ledger_up else []
        values: dict[str, object] = {
            **now.to_dict(),
            "images_per_s": now.rate_since(before),
            "submissions": [submission.to_dict() for submission in latest],
        }
        show(_service_panel(now, before, latest, url), _service_line(now, before), values)
        if once:
            return
        before = now
        time.sleep(interval_s)


def _latest(client: Pawqueue) -> list[Submission]:
    """The caller's submissions; none if the API key may not read them."""
    try:
        return client.submissions(_LATEST)
    except RefusedError:
        return []


def _service_line(now: ServiceStatus, before: ServiceStatus | None) -> str:
    if not now.ledger_up:
        return f"unknown: {' '.join(now.problems)}"
    rate = now.rate_since(before)
    speed = "" if rate is None else f", {rate:.1f} images/s"
    queued, running = now.queued.total(), now.running.total()
    return f"{queued:,} queued, {running:,} running{speed}, {_workers(now)}, {now.dead:,} dead"


def _service_panel(
    now: ServiceStatus, before: ServiceStatus | None, latest: list[Submission], url: str
) -> RenderableType:
    problems = [Text(problem, style="red") for problem in now.problems]
    if not now.ledger_up:
        return Group(Text(f"Pawqueue at {url}", style="bold"), *problems)
    parts: list[RenderableType] = [_head(now, before, url), *problems, _queues(now), Text(_totals(now))]
    if latest:
        parts += [Text(), submissions_table(latest)]
    return Group(*parts)


def _head(now: ServiceStatus, before: ServiceStatus | None, url: str) -> Text:
    rate = now.rate_since(before)
    head = Text(f"Pawqueue at {url}: ", style="bold")
    head.append(_workers(now), style="green" if now.workers else "red")
    head.append("" if rate is None else f", {rate:,.1f} images/s")
    if now.dead:
        head.append(f", {now.dead:,} dead (pawqueue dead list)", style="yellow")
    return head


def _workers(now: ServiceStatus) -> str:
    return f"{now.workers:,} worker{'' if now.workers == 1 else 's'}"


def _queues(now: ServiceStatus) -> Table:
    table = Table()
    table.add_column("queue")
    for name in ("queued", "running", "oldest"):
        table.add_column(name, justify="right")
    for queue in sorted(now.queued):
        oldest = f"{now.oldest_s[queue]:.1f} s" if now.queued[queue] else "-"
        table.add_row(queue, f"{now.queued[queue]:,}", f"{now.running[queue]:,}", oldest)
    return table


def _totals(now: ServiceStatus) -> str:
    finished = ", ".join(f"{count:,} {status}" for status, count in now.ended.most_common()) or "nothing yet"
    labels = ", ".join(f"{count:,} {escaped(label)}" for label, count in now.labels.most_common(5))
    return f"Finished so far: {finished}." + (f" Labels: {labels}." if labels else "")
