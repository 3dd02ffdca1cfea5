"""A card: its definition, its content for one snapshot, and its Dash components.

A page lists its cards once and computes their content from every snapshot. A card never shows zeros for unknown values.
If its source is down or has no data, its note explains why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

import dash_mantine_components as dmc
from dash import Output, dcc, html
from dash.development.base_component import Component

from dashboard.data.quantities import Line
from dashboard.data.source import SourceState
from dashboard.parts import figures
from dashboard.parts.figures import Figure
from dashboard.parts.text import clock, clock_s, iso_time, number

#: A part of a card.
Part = Literal["stats", "text", "figure", "table", "list"]


@dataclass(frozen=True, slots=True)
class Card:
    """The fixed part of a card."""

    id: str
    title: str
    #: In order of appearance. A table below a figure is collapsed at first.
    parts: tuple[Part, ...]
    is_wide: bool = False
    #: Describes the figure to screen readers.
    description: str = ""


def chart_card(card_id: str, title: str, description: str) -> Card:
    """A card with a chart and its values as a table."""
    return Card(card_id, title, ("figure", "table"), description=description)


class CardState(StrEnum):
    """What a card can show."""

    LOADING = "loading"
    OK = "ok"
    #: The source responds, but there is no data.
    EMPTY = "empty"
    #: The source is down; the last known data is shown.
    STALE = "stale"
    #: The source is down, and there is no data.
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Stat:
    """A large value with its name."""

    name: str
    value: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text cells."""

    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a list."""

    text: str
    #: Path and query of the page that it links to; empty for none.
    href: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """What a card shows for one snapshot."""

    state: CardState
    #: What the data covers, or why there is none; never empty.
    note: str
    #: When the source was read; None if the note already contains the time.
    read_at_s: float | None = None
    #: Markdown.
    text: str = ""
    figure: Figure | None = None
    stats: tuple[Stat, ...] = ()
    table: Table | None = None
    entries: tuple[Entry, ...] = ()

    @property
    def has_data(self) -> bool:
        """Whether the card shows data."""
        return self.state in (CardState.OK, CardState.STALE)


def content_of(source: SourceState, note: str, *, is_empty: bool = False, empty: str = "") -> Content:
    """The content of a card without its data: the state and note that follow from the state of its source."""
    if source.failed_since_s is not None:
        problem = f"Unavailable since {clock(source.failed_since_s)}. {source.problem}".strip()
        if source.read_at_s is None or is_empty:
            return Content(CardState.ERROR, problem)
        return Content(CardState.STALE, f"{problem} Showing data from {clock(source.read_at_s)}.")
    if source.read_at_s is None:
        return Content(CardState.LOADING, f"Waiting for {source.name}.")
    if is_empty:
        return Content(CardState.EMPTY, empty)
    return Content(CardState.OK, note, read_at_s=source.read_at_s)


def line_content(
    source: SourceState, note: str, lines: Sequence[Line], unit: str, empty: str, *, markers: bool = False
) -> Content:
    """The content of a card with a line chart over time."""
    is_empty = all(value is None for _, points in lines for _, value in points)
    content = content_of(source, note, is_empty=is_empty, empty=empty)
    if not content.has_data:
        return content
    return replace(content, figure=figures.lines(lines, unit, markers=markers), table=_table_of(lines, unit))


#: Rows of the table below a line chart.
_TABLE_ROWS = 15


def _table_of(lines: Sequence[Line], unit: str) -> Table:
    """The newest points, newest first."""
    names = tuple(f"{name} ({unit})" if unit else name for name, _ in lines)
    values = [dict(points) for _, points in lines]
    times = sorted({at_s for points in values for at_s in points}, reverse=True)[:_TABLE_ROWS]
    body = tuple((clock_s(at_s), *(number(line.get(at_s)) for line in values)) for at_s in times)
    return Table(("Time (UTC)", *names), body)


#: Plotly options of every chart: no toolbar, as wide as its card.
GRAPH_CONFIG: Any = {"displayModeBar": False, "responsive": True}
_EMPTY_FIGURE: dict[str, Any] = {"data": [], "layout": {}}
_STATE_WORDS = {
    CardState.LOADING: "Loading",
    CardState.OK: "",
    CardState.EMPTY: "No data",
    CardState.STALE: "Stale",
    CardState.ERROR: "Unavailable",
}
#: Part -> the property of its component that a refresh updates.
_PROPERTIES: dict[Part, str] = {
    "stats": "children",
    "text": "children",
    "figure": "figure",
    "table": "data",
    "list": "children",
}


def card_view(card: Card, content: Content) -> Component:
    """The components of a card."""
    class_name, note, word, *values = card_values(card, content)
    head = [html.H2(card.title, id=f"{card.id}-title"), html.Span(word, id=f"{card.id}-word")]
    inner: list[Any] = [html.Div(head, className="card-head"), html.P(note, id=f"{card.id}-note", className="note")]
    inner += [_part_view(card, part, value) for part, value in zip(card.parts, values, strict=True)]
    return html.Section(inner, id=card.id, className=class_name, **aria(labelledby=f"{card.id}-title"))


def card_outputs(card: Card) -> list[Output]:
    """The properties that a refresh of the card updates, in the order of `card_values`."""
    head = [Output(card.id, "className"), Output(f"{card.id}-note", "children"), Output(f"{card.id}-word", "children")]
    return head + [Output(f"{card.id}-{part}", _PROPERTIES[part]) for part in card.parts]


def card_values(card: Card, content: Content) -> list[Any]:
    """The values of `card_outputs`."""
    wide = " is-wide" if card.is_wide else ""
    head: list[Any] = [f"card is-{content.state}{wide}", _note(content), _STATE_WORDS[content.state]]
    return head + [_part_value(part, content) for part in card.parts]


def _part_value(part: Part, content: Content) -> Any:
    if part == "stats":
        return [_stat(stat) for stat in content.stats]
    if part == "text":
        return content.text
    if part == "figure":
        return content.figure or _EMPTY_FIGURE
    if part == "list":
        return [html.Li(dcc.Link(item.text, href=item.href) if item.href else item.text) for item in content.entries]
    table = content.table or Table((), ())
    return {"head": list(table.head), "body": [list(row) for row in table.body]}


def _part_view(card: Card, part: Part, value: Any) -> Component:
    part_id = f"{card.id}-{part}"
    if part == "stats":
        return html.Dl(value, id=part_id, className="stats")
    if part == "text":
        return dcc.Markdown(value, id=part_id, className="text")
    if part == "figure":
        graph = dcc.Graph(id=part_id, figure=value, config=GRAPH_CONFIG)
        return html.Div(graph, className="figure", role="img", **aria(label=f"{card.title}. {card.description}"))
    if part == "list":
        return html.Ul(value, id=part_id, className="list", **aria(label=card.title))
    table = dmc.Table(id=part_id, data=value, striped=True, tabularNums=True, verticalSpacing=4)
    region: dict[str, Any] = {"role": "region", "tabIndex": 0, "aria-label": f"{card.title}, table"}
    scroll = html.Div(table, className="table", **region)
    if "figure" not in card.parts:
        return scroll
    return html.Details([html.Summary("Show as table"), scroll], className="as-table")


def _note(content: Content) -> list[Any]:
    if content.read_at_s is None:
        return with_code(content.note)
    text = f"{clock_s(content.read_at_s)} UTC"
    # The browser appends the age: see `showAges` in pawqueue.js.
    time = html.Time(text, dateTime=iso_time(content.read_at_s), className="age")
    return [*with_code(content.note.removesuffix(".")), " · updated ", time]


def _stat(stat: Stat) -> Component:
    return html.Div([html.Dt(stat.name), html.Dd([html.Strong(stat.value), html.Span(stat.unit)])], className="stat")


def with_code(text: str) -> list[Any]:
    """Text for `children`, with parts between backticks as code."""
    return [html.Code(part) if index % 2 else part for index, part in enumerate(text.split("`"))]


def aria(**values: str) -> dict[str, Any]:
    """ARIA attributes: `aria(label="x")` becomes `aria-label="x"`."""
    return {f"aria-{name}": text for name, text in values.items()}
