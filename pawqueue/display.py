"""What people see on a terminal: tables of results and of failures, a summary, one job."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contract.job import Job, Prediction, Timings
from pawqueue.results import Row
from pawqueue.tally import TABLE_ROWS, Tally
from pawqueue.text import shown

_BAR_CELLS = 10
#: Rich's names; the number and the bar's length say the same to whom no colour is shown.
_SURE, _UNSURE = "green", "yellow"


def show_run(console: Console, tally: Tally, out: Path) -> None:
    """Print a sample of the results, what failed and why, and the summary."""
    if tally.sample:
        rows = [row for _, row in sorted(tally.sample.items())]
        console.print(results_table(rows, tally.done - len(rows)))
    if tally.failures:
        console.print(_failures_table(tally))
    console.print(summary_text(tally, out), soft_wrap=True, highlight=False)


def summary_text(tally: Tally, out: Path) -> str:
    """Two lines: how many of each kind in which time, and the labels."""
    counts = ", ".join(f"{number:,} {status}" for status, number in sorted(tally.statuses.items(), reverse=True))
    files = "1 file" if tally.total == 1 else f"{tally.total:,} files"
    lines = [f"{files}: {counts or 'none done'}; {tally.seconds:.1f} s, {tally.rate:.1f} images/s."]
    if tally.labels:
        lines.append(f"Labels: {_most_common(tally.labels)}.")
    if tally.done:
        lines.append(f"The full list is in {shown(str(out))}.")
    return "\n".join(lines)


def show_job(console: Console, job: Job) -> None:
    """Print all that is known of a job, a line for each fact."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(job):
        table.add_row(name, value)
    console.print(table)


def confidence_bar(confidence: float) -> Text:
    """A bar and the percentage, which never rounds up to a certainty that the model did not have."""
    filled = round(confidence * _BAR_CELLS)
    percent = min(confidence * 100, 99.9) if confidence < 1 else 100.0
    text = f"{'#' * filled}{'.' * (_BAR_CELLS - filled)} {percent:5.1f} %"
    return Text(text, style=_SURE if confidence >= 0.8 else _UNSURE)


def results_table(rows: Iterable[Row], more: int = 0) -> Table:
    """A line for each row, and a word about `more` that are not shown."""
    table = Table(caption=_more(more), caption_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("label", overflow="fold")
    table.add_column("confidence", no_wrap=True)
    table.add_column("ms", justify="right")
    for row in rows:
        _add_row(table, shown(row.file), *_result_cells(row))
    return table


def _result_cells(row: Row) -> tuple[str | Text, ...]:
    latency = "" if row.latency_ms is None else f"{row.latency_ms:,}"
    if row.confidence is None:
        return Text(f"({row.status})", style="red"), "", latency
    return shown(row.label), confidence_bar(row.confidence), latency


def _failures_table(tally: Tally) -> Table:
    total = tally.codes.total()
    table = Table(
        title=Text(f"{total:,} without a prediction: {_most_common(tally.codes)}"),
        title_justify="left",
        caption=_more(total - len(tally.failures)),
        caption_justify="left",
    )
    for name in ("file", "status", "why"):
        table.add_column(name, overflow="fold")
    for row in tally.failures:
        _add_row(table, shown(row.file), row.status, f"{shown(row.error_code)}: {shown(row.error)}")
    return table


def _add_row(table: Table, *cells: str | Text) -> None:
    """Add text as it is: rich would read `[red].jpg` as markup."""
    table.add_row(*(Text(item) if isinstance(item, str) else item for item in cells))


def _most_common(counts: Counter[str]) -> str:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number:,} {shown(name)}" for name, number in ranked[:TABLE_ROWS])


def _more(hidden: int) -> Text | None:
    return Text(f"and {hidden:,} more, all in the results file") if hidden else None


def _facts(job: Job) -> list[tuple[str, Text]]:
    facts = [("job", job.id), ("status", str(job.status)), ("file", shown(job.file)), ("queue", job.queue)]
    facts += [(name, value) for name, value in job.to_dict().items() if name.endswith("_at") and value]
    result = job.result
    if result and result.error:
        facts.append(("error", f"{shown(result.error.code)}: {shown(result.error.detail)}"))
    if result and result.model:
        facts.append(("model", shown(f"{result.model.name}@{result.model.version}")))
    if result and result.timings:
        facts.append(("time", _time_text(result.timings)))
    if result and result.batch_size:
        facts.append(("batch", f"one of {result.batch_size} predicted together"))
    texts = [(name, Text(value)) for name, value in facts]
    return texts + (_probabilities(result.prediction) if result and result.prediction else [])


def _time_text(timings: Timings) -> str:
    return (
        f"{timings.queue_ms:.0f} ms queued, {timings.decode_ms:.1f} ms decoding, "
        f"{timings.batch_wait_ms:.1f} ms waiting for a batch, {timings.predict_ms:.1f} ms predicting"
    )


def _probabilities(prediction: Prediction) -> list[tuple[str, Text]]:
    rows = [("label", Text(shown(prediction.label), style="bold"))]
    best = sorted(prediction.probabilities.items(), key=lambda item: -item[1])[:TABLE_ROWS]
    return rows + [(f"  {shown(label)}", confidence_bar(value)) for label, value in best]
