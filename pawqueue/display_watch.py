"""What `pawqueue watch` draws of the service."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pawqueue.display_submission import submissions_table
from pawqueue.service import ServiceState
from pawqueue.submission import Submission
from pawqueue.text import shown


def service_line(now: ServiceState, before: ServiceState | None) -> str:
    """The service in one line, where there is no terminal."""
    if not now.ledger_up:
        return "the ledger does not answer: nothing is known"
    rate = now.rate_since(before)
    speed = "" if rate is None else f", {rate:.1f} images/s"
    queued, running = now.queued.total(), now.running.total()
    return f"{queued:,} queued, {running:,} running{speed}, {workers_text(now)}, {now.dead:,} dead"


def service_panel(now: ServiceState, before: ServiceState | None, latest: list[Submission], url: str) -> RenderableType:
    """Head line, queues, totals and the latest submissions."""
    if not now.ledger_up:
        return Text(f"{url}: the ledger does not answer, so nothing is known; is Redis running?", style="red")
    parts: list[RenderableType] = [_head(now, before, url), _queues(now), Text(_totals(now))]
    if latest:
        parts += [Text(), submissions_table(latest)]
    return Group(*parts)


def _head(now: ServiceState, before: ServiceState | None, url: str) -> Text:
    rate = now.rate_since(before)
    head = Text(f"Pawqueue at {url}: ", style="bold")
    head.append(workers_text(now), style="green" if now.workers else "red")
    if not now.workers:
        head.append(" - images wait until one starts", style="red")
    head.append("" if rate is None else f", {rate:,.1f} images/s")
    if now.dead:
        head.append(f", {now.dead:,} dead (pawqueue dead list)", style="yellow")
    return head


def workers_text(now: ServiceState) -> str:
    """How many there are."""
    return f"{now.workers:,} worker{'' if now.workers == 1 else 's'}"


def _queues(now: ServiceState) -> Table:
    table = Table()
    table.add_column("queue")
    for name in ("queued", "running", "oldest"):
        table.add_column(name, justify="right")
    for queue in sorted(set(now.queued) | set(now.running)):
        oldest_s = now.oldest_s.get(queue, 0.0)
        oldest = f"{oldest_s:.1f} s" if now.queued[queue] else "-"
        table.add_row(queue, f"{now.queued[queue]:,}", f"{now.running[queue]:,}", oldest)
    return table


def _totals(now: ServiceState) -> str:
    ended = ", ".join(f"{count:,} {status}" for status, count in now.ended.most_common()) or "nothing yet"
    labels = ", ".join(f"{count:,} {shown(label)}" for label, count in now.labels.most_common(5))
    return f"Ended so far: {ended}." + (f" Labels: {labels}." if labels else "")
