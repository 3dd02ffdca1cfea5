"""Cards, tables and figures as Dash components, and the outputs through which callbacks refresh them."""

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Output, dcc, html
from dash.development.base_component import Component

from dashboard.card import CardState, Content, Spec, Stat, Table
from dashboard.text import clock_s, instant

_WORDS = {
    CardState.LOADING: "Loading",
    CardState.OK: "",
    CardState.EMPTY: "Nothing to show",
    CardState.STALE: "Stale",
    CardState.ERROR: "Not available",
}
_EMPTY_FIGURE: dict[str, Any] = {"data": [], "layout": {}}
#: Of every chart: no buttons over it, and as wide as its card.
GRAPH: Any = {"displayModeBar": False, "responsive": True}


def card(spec: Spec, content: Content) -> Component:
    """A card with what it shows just now."""
    state, note, *parts = values(spec, content)
    inner: list[Any] = [
        html.Div(
            [html.H2(spec.title, id=f"{spec.id}-title"), html.Span(_WORDS[content.state], id=f"{spec.id}-word")],
            className="card-head",
        ),
        html.P(note, id=f"{spec.id}-note", className="note"),
    ]
    parts = parts[1:]
    if spec.has_stats:
        inner.append(html.Dl(parts.pop(0), id=f"{spec.id}-stats", className="stats"))
    if spec.has_text:
        inner.append(dcc.Markdown(parts.pop(0), id=f"{spec.id}-text", className="text"))
    if spec.has_figure:
        inner.append(_graph(spec, parts.pop(0)))
    if spec.table:
        inner.append(_table(spec, parts.pop(0)))
    return html.Section(inner, id=spec.id, className=state, **said(labelledby=f"{spec.id}-title"))


def outputs(spec: Spec) -> list[Output]:
    """What a refresh of the card changes, in the order of `values`."""
    found = [Output(spec.id, "className"), Output(f"{spec.id}-note", "children"), Output(f"{spec.id}-word", "children")]
    if spec.has_stats:
        found.append(Output(f"{spec.id}-stats", "children"))
    if spec.has_text:
        found.append(Output(f"{spec.id}-text", "children"))
    if spec.has_figure:
        found.append(Output(f"{spec.id}-figure", "figure"))
    if spec.table:
        found.append(Output(f"{spec.id}-table", "data"))
    return found


def values(spec: Spec, content: Content) -> list[Any]:
    """The values of `outputs`."""
    wide = " is-wide" if spec.is_wide else ""
    found: list[Any] = [f"card is-{content.state}{wide}", _note(content), _WORDS[content.state]]
    if spec.has_stats:
        found.append(stats(content.stats))
    if spec.has_text:
        found.append(content.text)
    if spec.has_figure:
        found.append(content.figure or _EMPTY_FIGURE)
    if spec.table:
        found.append(table_data(content.table))
    return found


def _note(content: Content) -> list[Any]:
    """The words, and when it was read; the browser adds how long ago that is."""
    if content.read_at_s is None:
        return [content.note]
    text = f"{clock_s(content.read_at_s)} UTC"
    return [f"{content.note} · read ", html.Time(text, dateTime=instant(content.read_at_s), className="age")]


def stats(rows: Sequence[Stat]) -> list[Component]:
    """Large numbers with their names."""
    return [
        html.Div([html.Dt(row.name), html.Dd([html.Strong(row.value), html.Span(row.more)])], className="stat")
        for row in rows
    ]


def table_data(table: Table | None) -> dict[str, Any]:
    """A table as `dmc.Table` takes it."""
    return {"head": list(table.head), "body": [list(row) for row in table.body]} if table else {"head": [], "body": []}


def _graph(spec: Spec, figure: Any) -> Component:
    graph = dcc.Graph(id=f"{spec.id}-figure", figure=figure, config=GRAPH)
    return html.Div(graph, className="figure", role="img", **said(label=f"{spec.title}. {spec.description}"))


def _table(spec: Spec, data: Any) -> Component:
    table = dmc.Table(id=f"{spec.id}-table", data=data, striped=True, tabularNums=True, verticalSpacing=4)
    region: dict[str, Any] = {"role": "region", "tabIndex": 0, "aria-label": f"{spec.title}, table"}
    scroll = html.Div(table, className="table", **region)
    if spec.table == "open":
        return scroll
    return html.Details([html.Summary("As a table"), scroll], className="twin")


def said(**names: str) -> dict[str, Any]:
    """Attributes for those who listen to a page: `label` becomes `aria-label`."""
    return {f"aria-{name}": text for name, text in names.items()}
