"""The report of `pawqueue submit`: counts, a sample of the rows, failures, and accuracy."""

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contract.job import JobStatus
from contract.result_row import ResultRow
from pawqueue.bulk.accuracy import Comparison
from pawqueue.bulk.files import skipped_text
from pawqueue.cli.display import TABLE_ROWS, add_row, escaped, hidden_note, results_table, warning_text


@dataclass(slots=True)
class Tally:
    """Counts over the rows of a run of `total` files."""

    total: int
    statuses: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    #: Files without a prediction, by error code.
    codes: Counter[str] = field(default_factory=Counter)
    #: Number of images with each warning.
    warnings: Counter[str] = field(default_factory=Counter)
    #: Rows by position, spread evenly over all files.
    sample: dict[int, ResultRow] = field(default_factory=dict)
    #: The first rows without a prediction.
    failures: list[ResultRow] = field(default_factory=list)
    #: Files that the gateway accepted.
    accepted: int = 0
    #: Files that already had a result from an interrupted run.
    skipped: int = 0
    #: Files of folders that were not sent, by extension.
    skipped_files: Counter[str] = field(default_factory=Counter)
    submission_id: str = ""
    _started_s: float = field(default_factory=time.monotonic)

    def add(self, index: int, row: ResultRow) -> None:
        """Count the row of the file at position `index`, from 1."""
        self.statuses[row.status] += 1
        self.warnings.update(row.warnings.split())
        position = index - 1
        starts_section = position * TABLE_ROWS // self.total > (position - 1) * TABLE_ROWS // self.total
        if starts_section and len(self.sample) < TABLE_ROWS:
            self.sample[position] = row
        if row.succeeded:
            self.labels[row.label] += 1
        else:
            self.codes[row.error_code or row.status] += 1
            if len(self.failures) < TABLE_ROWS:
                self.failures.append(row)

    def skip(self, index: int, row: ResultRow) -> None:
        """Count a row of an interrupted run; it is not included in the rate."""
        self.add(index, row)
        self.skipped += 1

    @property
    def done(self) -> int:
        return self.statuses.total()

    @property
    def succeeded(self) -> int:
        return self.statuses[JobStatus.SUCCEEDED]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started_s

    @property
    def rate(self) -> float:
        """Files per second in this run."""
        return (self.done - self.skipped) / max(self.seconds, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Estimated seconds left; None before the first result."""
        return (self.total - self.done) / self.rate if self.rate else None

    @property
    def exit_code(self) -> int:
        """0: every file has a prediction; 1: some have; 2: none has."""
        if not self.succeeded:
            return 2
        return 0 if self.succeeded == self.total else 1

    def to_dict(self, out: Path) -> dict[str, Any]:
        """The report as JSON values; `failures` contains only the first ones."""
        return {
            "out": str(out),
            "submission": self.submission_id,
            "files": self.total,
            "done": self.done,
            "done_earlier": self.skipped,
            "skipped": dict(self.skipped_files),
            **{status: self.statuses[status] for status in ("succeeded", "failed", "refused", "unreadable")},
            "canceled": self.statuses[JobStatus.CANCELED],
            "expired": self.statuses[JobStatus.EXPIRED],
            "seconds": round(self.seconds, 3),
            "images_per_s": round(self.rate, 1),
            "labels": dict(self.labels),
            "errors": dict(self.codes),
            "warnings": dict(self.warnings),
            "failures": [asdict(row) for row in self.failures],
        }


def show_report(console: Console, tally: Tally, out: Path) -> None:
    """Print a sample of the results, the failures, and a summary."""
    if tally.sample:
        rows = [row for _, row in sorted(tally.sample.items())]
        console.print(results_table(rows, tally.done - len(rows)))
    if tally.failures:
        console.print(_failures_table(tally))
    console.print(_summary(tally, out), soft_wrap=True, highlight=False)


def show_accuracy(console: Console, comparison: Comparison) -> None:
    """Print confusion matrix, scores, mistakes and accuracy."""
    if not comparison.total:
        labels = ", ".join(escaped(label) for label in comparison.labels) or "none yet"
        text = f"No accuracy: no image with a prediction is in a folder named after a label ({labels})."
        console.print(text, soft_wrap=True, highlight=False)
        return
    console.print(_confusion_table(comparison))
    if comparison.mistakes:
        console.print(_mistakes_table(comparison))
    console.print(_accuracy_text(comparison), soft_wrap=True, highlight=False)


def _summary(tally: Tally, out: Path) -> str:
    counts = ", ".join(f"{number:,} {status}" for status, number in sorted(tally.statuses.items(), reverse=True))
    files = "1 file" if tally.total == 1 else f"{tally.total:,} files"
    lines = [f"{files}: {counts or 'none finished'}; {tally.seconds:.1f} s, {tally.rate:.1f} images/s."]
    if tally.skipped_files:
        lines.append(f"{escaped(skipped_text(tally.skipped_files))}. Use --all to send every file.")
    if tally.labels:
        lines.append(f"Labels: {_most_common(tally.labels)}.")
    for code, number in sorted(tally.warnings.items(), key=lambda item: (-item[1], item[0])):
        images = "1 image" if number == 1 else f"{number:,} images"
        lines.append(f"Warning for {images}: {warning_text(code)}")
    if tally.done:
        lines.append(f"The results are in {escaped(str(out))}.")
    return "\n".join(lines)


def _failures_table(tally: Tally) -> Table:
    total = tally.codes.total()
    table = Table(
        title=Text(f"{total:,} without a prediction: {_most_common(tally.codes)}"),
        title_justify="left",
        caption=hidden_note(total - len(tally.failures)),
        caption_justify="left",
    )
    for name in ("file", "status", "reason"):
        table.add_column(name, overflow="fold")
    for row in tally.failures:
        add_row(table, escaped(row.file), row.status, f"{escaped(row.error_code)}: {escaped(row.error)}")
    return table


def _most_common(counts: Counter[str]) -> str:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number:,} {escaped(name)}" for name, number in ranked[:TABLE_ROWS])


def _accuracy_text(comparison: Comparison) -> str:
    low, high = comparison.accuracy_interval()
    correct = f"{comparison.correct:,} of {comparison.total:,} correct"
    interval = f"95 % interval {_percent(low)} to {_percent(high)}"
    lines = [f"Accuracy {_percent(comparison.accuracy)} ({correct}; {interval})."]
    if comparison.without_prediction:
        lines.append(f"{comparison.without_prediction:,} without a prediction, not counted.")
    if comparison.without_truth:
        lines.append(f"{comparison.without_truth:,} in folders that are not named after a label, not counted.")
    return "\n".join(lines)


def _confusion_table(comparison: Comparison) -> Table:
    table = Table(title="True label (rows, by folder) and predicted label (columns)", title_justify="left")
    table.add_column("truth", style="bold")
    for label in comparison.labels:
        table.add_column(Text(escaped(label)), justify="right")
    for name in ("precision", "recall", "F1"):
        table.add_column(name, justify="right")
    for truth, scores in comparison.scores().items():
        cells = [_confusion_cell(comparison, truth, label) for label in comparison.labels]
        numbers = (scores.precision, scores.recall, scores.f1)
        table.add_row(Text(escaped(truth)), *cells, *(_percent(number) for number in numbers))
    return table


def _confusion_cell(comparison: Comparison, truth: str, label: str) -> Text:
    count = comparison.cells[truth, label]
    style = "green" if truth == label else "red" if count else "dim"
    return Text(f"{count:,}", style=style)


def _mistakes_table(comparison: Comparison) -> Table:
    table = Table(title="Most confident mistakes", title_justify="left")
    table.add_column("file", overflow="fold")
    for name in ("truth", "label"):
        table.add_column(name)
    table.add_column("confidence", justify="right", no_wrap=True)
    for mistake in comparison.mistakes:
        cells = (Text(escaped(text)) for text in (mistake.file, mistake.truth, mistake.label))
        table.add_row(*cells, _percent(min(mistake.confidence, 0.999)))
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
