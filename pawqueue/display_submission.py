"""What people see of a submission: its state, its counts, its rate and when it will have ended."""

import time
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pawqueue.progress import duration
from pawqueue.submission import Counts, Submission
from pawqueue.text import shown

_BAR_CELLS = 40
_STATES = ("succeeded", "failed", "canceled", "expired", "rejected", "running", "queued")


def show_submission(console: Console, submission: Submission) -> None:
    """Print all that is known of a submission, a line for each fact."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(submission):
        table.add_row(name, value)
    console.print(table, highlight=False)


def submissions_table(submissions: list[Submission]) -> Table:
    """A line for each submission."""
    table = Table(title="Latest submissions", title_justify="left")
    for name in ("submission", "name", "state"):
        table.add_column(name, overflow="fold")
    table.add_column("ended", justify="right")
    table.add_column("images/s", justify="right")
    for item in submissions:
        ended = f"{item.ended:,} of {item.counts.total:,}"
        table.add_row(item.id, shown(item.name), str(item.status), ended, f"{item.rate_per_s or 0:.1f}")
    return table


def submission_line(submission: Submission) -> str:
    """A submission in one line, where there is no terminal."""
    counts = submission.counts
    rate = f", {submission.rate_per_s:.1f} images/s" if submission.rate_per_s else ""
    return f"{submission.status}: {submission.ended:,} of {counts.total:,} ended ({counts_text(counts)}){rate}"


def submission_panel(submission: Submission) -> RenderableType:
    """A bar of what has ended, the counts, and when it will be over."""
    counts = submission.counts
    head = Text(f"Submission {submission.id}", style="bold")
    head.append(f" {shown(submission.name)}: {submission.status}", style="")
    bar = Table.grid(padding=(0, 1))
    rate = f"{submission.rate_per_s:,.1f} images/s" if submission.rate_per_s else ""
    bar.add_row(
        ProgressBar(total=max(counts.total, 1), completed=submission.ended, width=_BAR_CELLS),
        Text(f"{submission.ended:,}/{counts.total:,}"),
        Text(rate),
        Text(_left(submission)),
    )
    return Group(head, bar, Text(counts_text(counts)))


def counts_text(counts: Counts) -> str:
    """The states that occur, each with its number."""
    parts = [f"{number:,} {name}" for name in _STATES if (number := getattr(counts, name))]
    return ", ".join(parts) or "empty"


def _facts(submission: Submission) -> list[tuple[str, str]]:
    facts = [
        ("submission", submission.id),
        ("name", shown(submission.name)),
        ("state", str(submission.status)),
        ("queue", submission.queue),
        ("images", f"{submission.counts.total:,}: {counts_text(submission.counts)}"),
        ("rate", f"{submission.rate_per_s:,.1f} images/s" if submission.rate_per_s else ""),
        ("opened", _clock(submission.created_s)),
        ("closed", _clock(submission.closed_s)),
        ("finished", _clock(submission.finished_s)),
        ("ends", _ends(submission)),
    ]
    return [(name, value) for name, value in facts if value]


def _ends(submission: Submission) -> str:
    left = _left(submission)
    return f"{_clock(submission.estimated_end_s)}, {left}" if left else ""


def _left(submission: Submission) -> str:
    if submission.estimated_end_s is None or submission.status.is_final:
        return ""
    return f"about {duration(max(0.0, submission.estimated_end_s - time.time()))} left"


def _clock(time_s: float | None) -> str:
    return "" if time_s is None else datetime.fromtimestamp(time_s).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
