"""What people see of a comparison with the truth: confusion matrix, scores, the most confident mistakes."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pawqueue.text import shown
from pawqueue.truth import Comparison


def show_truth(console: Console, comparison: Comparison) -> None:
    """Print how the labels compare with the names of the folders."""
    if not comparison.total:
        console.print(_nothing(comparison), soft_wrap=True, highlight=False)
        return
    console.print(_matrix(comparison))
    if comparison.mistakes:
        console.print(_mistakes(comparison))
    console.print(truth_text(comparison), soft_wrap=True, highlight=False)


def truth_text(comparison: Comparison) -> str:
    """One to three lines: the accuracy with its interval, and what could not be compared."""
    low, high = comparison.accuracy_interval()
    right = f"{comparison.right:,} of {comparison.total:,} right"
    interval = f"95 % interval {_percent(low)} to {_percent(high)}"
    lines = [f"Accuracy {_percent(comparison.accuracy)} ({right}; {interval})."]
    if comparison.unpredicted:
        lines.append(f"{comparison.unpredicted:,} with a known truth have no prediction and are not counted.")
    if comparison.untold:
        lines.append(f"{comparison.untold:,} are in no folder named after a label and are not counted.")
    return "\n".join(lines)


def _nothing(comparison: Comparison) -> str:
    labels = ", ".join(shown(label) for label in comparison.labels) or "none yet"
    return f"Nothing to compare: no image with a prediction lies in a folder named after a label ({labels})."


def _matrix(comparison: Comparison) -> Table:
    table = Table(title="Truth (rows, by folder) against label (columns)", title_justify="left")
    table.add_column("truth", style="bold")
    for label in comparison.labels:
        table.add_column(Text(shown(label)), justify="right")
    for name in ("precision", "recall", "F1"):
        table.add_column(name, justify="right")
    for truth, scores in comparison.scores().items():
        cells = [_cell(comparison, truth, label) for label in comparison.labels]
        numbers = (scores.precision, scores.recall, scores.f1)
        table.add_row(Text(shown(truth)), *cells, *(_percent(number) for number in numbers))
    return table


def _cell(comparison: Comparison, truth: str, label: str) -> Text:
    count = comparison.cells[truth, label]
    style = "green" if truth == label else "red" if count else "dim"
    return Text(f"{count:,}", style=style)


def _mistakes(comparison: Comparison) -> Table:
    table = Table(title="The most confident mistakes", title_justify="left")
    table.add_column("file", overflow="fold")
    for name in ("truth", "label"):
        table.add_column(name)
    table.add_column("confidence", justify="right", no_wrap=True)
    for mistake in comparison.mistakes:
        cells = (Text(shown(text)) for text in (mistake.file, mistake.truth, mistake.label))
        table.add_row(*cells, _percent(min(mistake.confidence, 0.999)))
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
