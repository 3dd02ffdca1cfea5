"""The table that `python -m benchmarks.gpu` writes."""

from statistics import median
from typing import Any

_HEADER = (
    "network",
    "backend",
    "bare loop, images/s",
    "32 clients: to the bare loop",
    "128 clients: to the bare loop",
    "two workers, to one",
    "GPU memory of one and two workers, MiB",
)


def markdown(found: dict[str, Any]) -> str:
    """A line about the machine, a row for each network and backend, and what is missing."""
    gpus = "; ".join(found["gpus"]) or "No GPU"
    about = f"{gpus}; {found['machine']['processor']}, {found['machine']['cores']} cores."
    rows = [_HEADER, ["---"] * len(_HEADER), *(_cells(row) for row in found["rows"])]
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([about, "", *lines, *(f"\nNot measured: {n} ({why})." for n, why in found["left_out"].items())])


def _cells(row: dict[str, Any]) -> list[str]:
    one, two = row["one_worker_mib"], row["two_workers_mib"]
    memory = "" if one is None else f"{one:,} and {two:,}"
    ratios = [_spread(row["ratios"][count]) for count in ("32", "128")]
    rates = [f"{row['bare_images_per_s']:.0f}", *ratios, f"{row['two_workers_ratio']:.2f}"]
    return [row["network"], row["backend"], *rates, memory]


def _spread(values: list[float]) -> str:
    """Median, with the range in parentheses if there were several rounds."""
    text = f"{median(values):.2f}"
    return f"{text} ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else text
