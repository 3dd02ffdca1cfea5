"""What all pages share: their definition, the view they show, and the refresh of their cards."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, html
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate
from flask import request
from plotly.io.json import to_json_plotly as to_json

from dashboard.data.jobs import JobRow
from dashboard.data.snapshot import Snapshot
from dashboard.parts.card import Card, Content, aria, card_outputs, card_values
from dashboard.services import Services
from dashboard.sign_in import Viewer, current_viewer

Contents = Mapping[str, Content]


@dataclass(frozen=True, slots=True)
class View:
    """A snapshot, and what determines how it is shown: the viewer, the page address and the prefix of links."""

    snapshot: Snapshot
    viewer: Viewer
    #: Query of the page's address.
    search: str = ""
    #: Path prefix under which a proxy publishes the dashboard; every link starts with it.
    root: str = ""

    @property
    def model(self) -> str:
        """The model in the address of the page; empty for all models."""
        model = model_in(self.search)
        return model if model in self.snapshot.status.live else ""

    @property
    def jobs(self) -> list[JobRow]:
        """The finished jobs that the viewer may see, newest first."""
        return self.viewer.visible(self.snapshot.jobs)


def current_view(services: Services, search: str | None) -> View:
    """The newest snapshot for the current request, whose page address has the query `search`."""
    return View(services.reader.latest, current_viewer(), search or "", request.script_root)


def model_in(search: str) -> str:
    """The parameter `model` of a query; empty if it is missing."""
    return parse_qs(search.lstrip("?")).get("model", [""])[-1]


def with_model_links(view: View, cards: list[Component]) -> list[Component]:
    """Links that select a model, if there are several, above the cards."""
    live = view.snapshot.status.live
    if len(live) < 2:
        return _cards_only(view, cards)
    links = [_model_link(name, is_current=name == view.model) for name in ("", *live)]
    return [html.Nav(links, className="models", **aria(label="Model")), *_cards_only(view, cards)]


def _model_link(name: str, *, is_current: bool) -> Component:
    current: dict[str, Any] = {"aria-current": "true"} if is_current else {}
    link: Component = html.A(name or "All models", href=f"?model={quote(name)}" if name else "?", **current)
    return link


def _cards_only(_view: View, cards: list[Component]) -> list[Component]:
    return [html.Div(cards, className="cards")]


@dataclass(frozen=True)
class Page:
    """One page."""

    name: str
    path: str
    title: str
    lead: str
    cards: tuple[Card, ...] = ()
    #: What the cards show, by card id.
    contents: Callable[[View], Contents] = lambda _view: {}
    #: Builds the components below the title from the components of the cards.
    layout: Callable[[View, list[Component]], list[Component]] = _cards_only
    #: Registers further callbacks. The refresh of the cards is already registered.
    register: Callable[[Dash, Services], None] = lambda _app, _services: None
    #: The part of the query that `contents` depends on.
    filters: Callable[[str], str] = lambda _search: ""
    #: Id of the component whose `search` refreshes the cards when it changes.
    location: str = ""

    def cached_values(self, services: Services, view: View) -> list[Any]:
        """The values of all cards, computed once per snapshot for all viewers who see the same jobs."""
        key = (self.name, view.viewer.cache_key, view.root, self.filters(view.search))
        return services.cache.get(view.snapshot, key, lambda: self._values(view))

    def _values(self, view: View) -> list[Any]:
        contents = self.contents(view)
        return [plain(value) for card in self.cards for value in card_values(card, contents[card.id])]


def register_refresh(app: Dash, services: Services, page: Page) -> None:
    """Refresh the cards of a page with every new snapshot."""
    inputs = [Input(f"{page.name}-tick", "n_intervals"), State(f"{page.name}-seen", "data")]
    inputs.append(Input(page.location, "search") if page.location else State("url", "search"))

    @app.callback(
        [Output(f"{page.name}-seen", "data"), *(output for card in page.cards for output in card_outputs(card))],
        inputs,
        prevent_initial_call=True,
    )
    def refresh(_ticks: int | None, seen: int, search: str | None = None) -> list[Any]:
        view = current_view(services, search)
        if view.snapshot.sequence == seen and ctx.triggered_id == f"{page.name}-tick":
            raise PreventUpdate
        return [view.snapshot.sequence, *page.cached_values(services, view)]


def in_browser(app: Any, function: str, *arguments: Any, on_load: bool = False) -> None:
    """Register a function of `assets/pawqueue.js` as a callback."""
    app.clientside_callback(ClientsideFunction("pawqueue", function), *arguments, prevent_initial_call=not on_load)


def plain(value: Any) -> Any:
    """Components as plain dictionaries. Cached values would otherwise be serialized again for every viewer."""
    return json.loads(str(to_json(value)))
