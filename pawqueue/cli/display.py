"""Formats jobs, submissions and rows for a terminal."""

import time
from collections.abc import Iterable
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from contract.job import WARNINGS, Job, Prediction, Timings
from contract.result_row import ResultRow
from contract.submission import Counts
from pawqueue.client.submissions import Submission

#: Maximum number of rows of a table.
TABLE_ROWS = 20
_CONFIDENCE_CELLS, _PROGRESS_CELLS = 10, 40
_COUNTED = ("succeeded", "failed", "canceled", "expired", "rejected", "running", "queued")


def escaped(text: str) -> str:
    """The text with escapes for line ends and all characters that could control the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def warning_text(code: str) -> str:
    """A warning about an image: its code, and its meaning if this version has it."""
    meaning = WARNINGS.get(code)
    return f"{escaped(code)}: {meaning}" if meaning else f"{escaped(code)}."


def duration(seconds: float) -> str:
    """A time span in hours, minutes or seconds."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def show_job(console: Console, job: Job) -> None:
    """Print a job, one line per fact."""
    facts = [("job", job.id), ("status", str(job.status)), ("file", escaped(job.file)), ("queue", job.queue)]
    facts += [(name, value) for name, value in job.to_dict().items() if name.endswith("_at") and value]
    result = job.result
    if result and result.error:
        facts.append(("error", f"{escaped(result.error.code)}: {escaped(result.error.detail)}"))
    facts += [("warning", warning_text(code)) for code in (result.warnings if result else ())]
    if result and result.model:
        facts.append(("model", escaped(f"{result.model.name}@{result.model.version}")))
    if result and result.timings:
        facts.append(("time", _timings_text(result.timings)))
    if result and result.batch_size:
        facts.append(("batch", f"{result.batch_size} images"))
    lines = [(name, Text(value)) for name, value in facts]
    if result and result.prediction:
        lines += _probabilities(result.prediction)
        if result.prediction.familiarity is not None:
            lines.append(("familiarity", confidence_bar(result.prediction.familiarity)))
    _print_facts(console, lines)


def show_submission(console: Console, submission: Submission) -> None:
    """Print a submission, one line per fact."""
    counts, left = submission.counts, _time_left(submission)
    facts = [
        ("submission", submission.id),
        ("name", escaped(submission.name)),
        ("status", str(submission.status)),
        ("queue", submission.queue),
        ("images", f"{counts.total:,}: {counts_text(counts)}"),
        ("rate", f"{submission.rate_per_s:,.1f} images/s" if submission.rate_per_s else ""),
        ("opened", _local_time(submission.created_s)),
        ("closed", _local_time(submission.closed_s)),
        ("finished", _local_time(submission.finished_s)),
        ("estimated end", f"{_local_time(submission.estimated_end_s)}, {left}" if left else ""),
    ]
    _print_facts(console, [(name, Text(value)) for name, value in facts if value])


def results_table(rows: Iterable[ResultRow], hidden: int = 0) -> Table:
    """A table of rows, with a note about `hidden` more. It has a column of warnings if a row has one."""
    rows = list(rows)
    table = Table(caption=hidden_note(hidden), caption_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("label", overflow="fold")
    table.add_column("confidence", no_wrap=True)
    table.add_column("ms", justify="right")
    has_warnings = any(row.warnings for row in rows)
    if has_warnings:
        table.add_column("warnings", overflow="fold")
    for row in rows:
        latency = "" if row.latency_ms is None else f"{row.latency_ms:,}"
        if row.confidence is None:
            cells: tuple[str | Text, ...] = (Text(f"({row.status})", style="red"), "")
        else:
            cells = (escaped(row.label), confidence_bar(row.confidence))
        add_row(table, escaped(row.file), *cells, latency, *([escaped(row.warnings)] if has_warnings else []))
    return table


def submissions_table(submissions: list[Submission]) -> Table:
    """A table with one row per submission."""
    table = Table(title="Latest submissions", title_justify="left")
    for name in ("submission", "name", "status"):
        table.add_column(name, overflow="fold")
    table.add_column("finished", justify="right")
    table.add_column("images/s", justify="right")
    for item in submissions:
        finished = f"{item.ended:,} of {item.counts.total:,}"
        table.add_row(item.id, Text(escaped(item.name)), str(item.status), finished, f"{item.rate_per_s or 0:.1f}")
    return table


def job_line(job: Job) -> str:
    """A job in one line."""
    found = job.result
    text = ""
    if found and found.prediction:
        text = f", {found.prediction.label} ({found.prediction.confidence:.1%})"
    elif found and found.error:
        text = f", {found.error.code}: {found.error.detail}"
    return f"{job.status}: {escaped(job.file or job.id)}{escaped(text)}"


def submission_line(submission: Submission) -> str:
    """A submission in one line, for logs and pipes."""
    counts = submission.counts
    rate = f", {submission.rate_per_s:.1f} images/s" if submission.rate_per_s else ""
    return f"{submission.status}: {submission.ended:,} of {counts.total:,} finished ({counts_text(counts)}){rate}"


def submission_panel(submission: Submission) -> RenderableType:
    """A submission with a progress bar, its counts and the time left."""
    counts = submission.counts
    head = Text(f"Submission {submission.id}", style="bold")
    head.append(f" {escaped(submission.name)}: {submission.status}", style="")
    bar = Table.grid(padding=(0, 1))
    rate = f"{submission.rate_per_s:,.1f} images/s" if submission.rate_per_s else ""
    bar.add_row(
        ProgressBar(total=max(counts.total, 1), completed=submission.ended, width=_PROGRESS_CELLS),
        Text(f"{submission.ended:,}/{counts.total:,}"),
        Text(rate),
        Text(_time_left(submission)),
    )
    return Group(head, bar, Text(counts_text(counts)))


def counts_text(counts: Counts) -> str:
    """The number of images by status, without zeros."""
    parts = [f"{number:,} {name}" for name in _COUNTED if (number := getattr(counts, name))]
    return ", ".join(parts) or "empty"


def confidence_bar(confidence: float) -> Text:
    """A bar and a percentage; only exactly 1 is shown as 100 %."""
    filled = round(confidence * _CONFIDENCE_CELLS)
    percent = min(confidence * 100, 99.9) if confidence < 1 else 100.0
    text = f"{'#' * filled}{'.' * (_CONFIDENCE_CELLS - filled)} {percent:5.1f} %"
    return Text(text, style="green" if confidence >= 0.8 else "yellow")


def add_row(table: Table, *cells: str | Text) -> None:
    """Add a row of plain text, because rich would interpret `[red].jpg` as markup."""
    table.add_row(*(Text(item) if isinstance(item, str) else item for item in cells))


def hidden_note(hidden: int) -> Text | None:
    """A note about rows that a table leaves out."""
    return Text(f"and {hidden:,} more, all in the results file") if hidden else None


def _print_facts(console: Console, facts: list[tuple[str, Text]]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, value)
    console.print(table, highlight=False)


def _timings_text(timings: Timings) -> str:
    return (
        f"{timings.queue_ms:.0f} ms queued, {timings.decode_ms:.1f} ms decoding, "
        f"{timings.batch_wait_ms:.1f} ms waiting for a batch, {timings.predict_ms:.1f} ms predicting"
    )


def _probabilities(prediction: Prediction) -> list[tuple[str, Text]]:
    rows = [("label", Text(escaped(prediction.label), style="bold"))]
    best = sorted(prediction.probabilities.items(), key=lambda item: -item[1])[:TABLE_ROWS]
    return rows + [(f"  {escaped(label)}", confidence_bar(value)) for label, value in best]


def _time_left(submission: Submission) -> str:
    if submission.estimated_end_s is None or submission.status.is_final:
        return ""
    return f"about {duration(max(0.0, submission.estimated_end_s - time.time()))} left"


def _local_time(time_s: float | None) -> str:
    return "" if time_s is None else datetime.fromtimestamp(time_s).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
