"""A card of a page: what it shows, and the words of the state that it is in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from dashboard.figures import Figure
from dashboard.quantities import Point
from dashboard.snapshot import SourceState
from dashboard.text import clock, clock_s, number


class CardState(StrEnum):
    """What a card can be in; each has words, none shows zeros for what is not known."""

    LOADING = "loading"
    OK = "ok"
    #: The source answers, but there is nothing to show.
    EMPTY = "empty"
    #: The source does not answer; what it said last is shown.
    STALE = "stale"
    #: The source does not answer, and never has.
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text."""

    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Stat:
    """One large number with its name; both are complete without colour."""

    name: str
    value: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a card is, whatever it shows just now."""

    id: str
    title: str
    has_figure: bool = False
    has_stats: bool = False
    has_text: bool = False
    #: `twin`: a table behind a button, beside the figure; `open`: the table is what the card shows.
    table: str = ""
    is_wide: bool = False
    #: Said of the figure to those who do not see it.
    description: str = ""


def charted(card_id: str, title: str, description: str) -> Spec:
    """A card with a figure and its table."""
    return Spec(card_id, title, has_figure=True, table="twin", description=description)


@dataclass(frozen=True, slots=True)
class Content:
    """What a card shows just now."""

    state: CardState
    #: Window, or what is wrong: never empty.
    note: str
    #: When the source was read, so that a page can tell the age; None where the note says more.
    read_at_s: float | None = None
    #: Markdown.
    text: str = ""
    figure: Figure | None = None
    stats: tuple[Stat, ...] = field(default_factory=tuple)
    table: Table | None = None


def judge(source: SourceState, window: str, *, is_empty: bool = False, empty: str = "") -> Content:
    """The state of a card that hangs on one source, in words; what it shows is to be added."""
    if source.failed_since_s is not None:
        since = f"{source.name} unreachable since {clock(source.failed_since_s)}. {source.problem}".strip()
        if source.read_at_s is None or is_empty:
            return Content(CardState.ERROR, since)
        return Content(CardState.STALE, f"{since} What is shown is from {clock(source.read_at_s)}.")
    if source.read_at_s is None:
        return Content(CardState.LOADING, f"Waiting for the first answer of {lower_first(source.name)}.")
    if is_empty:
        return Content(CardState.EMPTY, empty)
    return Content(CardState.OK, window, read_at_s=source.read_at_s)


def lower_first(text: str) -> str:
    """`The gateway` within a sentence; names stay as they are."""
    return text[0].lower() + text[1:] if text.startswith("The ") else text


#: Rows of a table that stands for a figure over time.
_TWIN_ROWS = 15


def twin_of(rows: Sequence[tuple[str, Sequence[Point]]], unit: str) -> Table:
    """The newest points of lines, newest first, as a table."""
    names = tuple(f"{name} ({unit})" if unit else name for name, _ in rows)
    values = [dict(points) for _, points in rows]
    times = sorted({at_s for points in values for at_s in points}, reverse=True)[:_TWIN_ROWS]
    body = tuple((clock_s(at_s), *(number(line.get(at_s)) for line in values)) for at_s in times)
    return Table(("Time (UTC)", *names), body)
