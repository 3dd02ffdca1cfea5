"""Draws the Grafana boards: `python -m tests.deploy.board_screens [FOLDER]`; the default is `docs/images`.

The script starts services, puts them under load, and draws the answers of a real Prometheus to the queries of the
boards with the figures of the dashboard. It shows what the boards contain, not how Grafana displays it.
"""

import html
import json
import math
import re
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx

from dashboard.data.quantities import Line
from dashboard.parts.figures import lines
from deploy.monitoring.boards import BOARDS, Board, Panel
from tests.dashboard.conftest import PHOTOS, send
from tests.dashboard.screenshots import load
from tests.deploy.test_boards import promql, rule_groups
from tests.support.browser import running_browser
from tests.support.prometheus import running_prometheus
from tests.support.services import ROOT, Stack, running_stack

_LOAD_S, _STEP_S = 120.0, 2
_MAX_LINES = 7
_UNITS = {
    "cps": ("per second", 1),
    "reqps": ("requests/s", 1),
    "s": ("s", 1),
    "percentunit": ("%", 100),
    "bytes": ("MB", 1e-6),
    "short": ("", 1),
    "bool_yes_no": ("", 1),
}
_STYLE = """
body { font: 13px system-ui, sans-serif; margin: 16px; width: 1240px; color: #1b1f24; }
main { display: grid; grid-template-columns: repeat(24, 1fr); gap: 8px; }
section { border: 1px solid #cfd6dd; border-radius: 6px; padding: 8px; min-width: 0; }
h1 { font-size: 18px; margin: 0 0 4px } h2 { font-size: 13px; margin: 0 } p { margin: 0 0 12px }
.number { font-size: 26px; margin: 8px 0 0 }
"""


def main() -> int:
    """Write the pictures; returns the exit status."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    with (
        tempfile.TemporaryDirectory() as name,
        running_stack(Path(name)) as stack,
        running_prometheus(stack, Path(name), rule_groups()) as url,
        httpx.Client(base_url=url, timeout=60) as prometheus,
        load(stack),
    ):
        end_s = time.monotonic() + _LOAD_S
        while time.monotonic() < end_s:
            _report_labels(stack)
        pages = {board.name: _page(board, prometheus, time.time()) for board in BOARDS}
    with running_browser() as browser:
        for name, text in pages.items():
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_content(text)
            page.wait_for_timeout(1500)  # until the charts are drawn
            page.screenshot(path=folder / f"board-{name}.png", full_page=True)
            page.close()
    return 0


def _report_labels(stack: Stack) -> None:
    jobs = send(stack, PHOTOS)
    for job in jobs:
        label = "dog" if "dog" in job["file"] else "cat"
        httpx.post(f"{stack.url}/v1/jobs/{job['id']}/feedback", json={"label": label}, timeout=60)


def _page(board: Board, prometheus: httpx.Client, now_s: float) -> str:
    parts, figures = [], {}
    for number, panel in enumerate(board.panels):
        rows = [row for query in panel.queries for row in _rows(prometheus, query.promql, query.legend, panel, now_s)]
        unit = _UNITS[panel.unit][0]
        if panel.kind == "stat":
            value = rows[0][1][-1][1]
            shown = ("yes" if value else "no") if panel.unit == "bool_yes_no" else f"{value:,.4g} {unit}"
            inner = f'<p class="number">{shown}</p>'
        else:
            busiest = sorted(rows, key=lambda row: -max((value or 0 for _, value in row[1]), default=0))[:_MAX_LINES]
            figures[f"p{number}"] = lines(busiest, unit)
            inner = f'<div id="p{number}"></div>'
        parts.append(
            f'<section style="grid-column: span {panel.width}"><h2>{html.escape(panel.title)}</h2>{inner}</section>'
        )
    script = files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
    draw = (
        "for (const [id, figure] of Object.entries(FIGURES)) "
        "Plotly.newPlot(id, figure.data, figure.layout, {staticPlot: true})"
    )
    return (
        f"<!doctype html><style>{_STYLE}</style><script>{script}</script>"
        f"<h1>{html.escape(board.title)}</h1><p>{html.escape(board.about)}</p><main>{''.join(parts)}</main>"
        f"<script>const FIGURES = {json.dumps(figures)}; {draw}</script>"
    )


def _rows(prometheus: httpx.Client, query: str, legend: str, panel: Panel, now_s: float) -> list[Line]:
    times = {"start": now_s - _LOAD_S, "end": now_s, "step": _STEP_S}
    response = prometheus.get("/api/v1/query_range", params={"query": promql(query), **times})
    factor = _UNITS[panel.unit][1]
    return [
        (_name(legend, row["metric"]), [(float(at_s), _value(text, factor)) for at_s, text in row["values"]])
        for row in response.raise_for_status().json()["data"]["result"]
    ]


def _name(legend: str, labels: dict[str, Any]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), legend)


def _value(text: str, factor: float) -> float | None:
    value = float(text) * factor
    return value if math.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
