"""The table of `make bench ONLY=peers` as docs/performance.md shows it."""

from statistics import median
from typing import Any


def markdown(found: dict[str, Any], machine: dict[str, Any]) -> str:
    """A line about the run, a row for each server (fastest first), and which servers are missing."""
    bare = found["bare_images_per_s"]
    about = (
        f"{machine['processor']}, {machine['cores']} cores, load average {found['load_average']:.1f} before the run; "
        f"{found['rounds']} rounds of {found['seconds']:g} s; the bare loop handles {min(bare):.0f} to "
        f"{max(bare):.0f} images/s."
    )
    many = [str(count) for count in found["clients"] if count > 1]
    header = ["server", "1 client: p50, ms"]
    header += [text for count in many for text in (f"{count} clients: to the bare loop", "p50, ms", "p99, ms")]
    most = many[0]
    ordered = sorted(found["servers"].items(), key=lambda item: -median(row["ratio"] for row in item[1][most]))
    rows = [[title, _spread(loads["1"], "p50_ms", ".1f"), *_cells(loads, many)] for title, loads in ordered]
    missing = [f"Not measured: {title} ({reason})." for title, reason in found["left_out"].items()]
    return "\n".join([about, "", *_lines([header, ["---"] * len(header), *rows]), *missing])


def _cells(loads: dict[str, list[dict[str, float]]], counts: list[str]) -> list[str]:
    cells = []
    for count in counts:
        cells.append(_spread(loads[count], "ratio", ".2f"))
        cells += [f"{median(row[key] for row in loads[count]):.0f}" for key in ("p50_ms", "p99_ms")]
    return cells


def _spread(rounds: list[dict[str, float]], key: str, form: str) -> str:
    """Median, with the range in parentheses if there were several rounds."""
    values = [row[key] for row in rounds]
    text = format(median(values), form)
    return f"{text} ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else text


def _lines(rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in rows]
