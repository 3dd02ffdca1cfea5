"""From the browser to the snapshot and back: a few lines each, and nothing that waits, but for Try it."""

from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, html, no_update
from dash.exceptions import PreventUpdate

from dashboard.components import outputs
from dashboard.gallery import SHOWN, gallery, opened
from dashboard.job_rows import Filters, filters_of, job_id_of, search_of
from dashboard.layout import navigation, page_layout
from dashboard.pages import BY_PATH, PAGES, Maker, Page, plain
from dashboard.parts import Parts
from dashboard.snapshot import Snapshot
from dashboard.text import count
from dashboard.try_it import data_of, entries_of, followed, result, sent, service_status
from dashboard.viewers import Viewer, viewer
from dashboard.views.predictions import remembered, shown


def register_callbacks(app: Dash, parts: Parts) -> None:
    """Give `app` all of them."""
    maker = parts.maker
    _navigate(app, parts)
    for page in PAGES:
        if page.specs:
            _refresh(app, parts, maker, page)
    _predictions(app, parts, maker)
    _try_it(app, parts)


def _navigate(app: Dash, parts: Parts) -> None:
    @app.callback(
        Output("content", "children"),
        Output("nav", "children"),
        Input("url", "pathname"),
        State("url", "search"),
    )
    def show(path: str | None, search: str | None) -> tuple[Any, Any]:
        page = BY_PATH.get(path or "/")
        if page is None:
            return html.P("There is no such page.", className="note"), navigation("")
        snapshot, search = parts.reader.latest, search or ""
        contents = parts.maker.contents(page, snapshot, viewer(), search)
        return page_layout(page, contents, snapshot, viewer(), search, parts.refresh_s), navigation(page.path)

    _in_browser(app, "arrive", Input("url", "pathname"))


def _refresh(app: Dash, parts: Parts, maker: Maker, page: Page) -> None:
    inputs = [Input(f"{page.name}-tick", "n_intervals"), State(f"{page.name}-seen", "data")]
    if page.name == "predictions":
        inputs.append(Input("predictions-url", "search"))

    @app.callback(
        [Output(f"{page.name}-seen", "data"), *(one for spec in page.specs for one in outputs(spec))],
        inputs,
        prevent_initial_call=True,
    )
    def refresh(_ticks: int | None, seen: int, search: str | None = None) -> list[Any]:
        snapshot = parts.reader.latest
        if snapshot.sequence == seen and ctx.triggered_id == f"{page.name}-tick":
            raise PreventUpdate
        return [snapshot.sequence, *maker.values(page, snapshot, viewer(), search or "")]


_CONTROLS = [Input(f"predictions-{name}", "value") for name in ("label", "status", "model", "minutes", "range")]


def _predictions(app: Dash, parts: Parts, maker: Maker) -> None:
    @app.callback(
        Output("predictions-found", "data"),
        Output("predictions-count", "children"),
        Output("predictions-csv", "href"),
        Input("predictions-seen", "data"),
        Input("predictions-url", "search"),
    )
    def find(_seen: int, search: str | None) -> tuple[Any, Any, Any]:
        snapshot, filters, who = parts.reader.latest, filters_of(search or ""), viewer()
        key = ("gallery", who.scope, search_of(filters))
        return maker.once(snapshot, key, lambda of: _gallery(of, who, filters))

    drawn = Output("predictions-gallery", "children"), Output("predictions-held", "className")
    _in_browser(app, "draw", *drawn, Input("predictions-found", "data"))

    @app.callback(
        Output("predictions-url", "search"),
        *(Output(one.component_id, "value") for one in _CONTROLS),
        Output("predictions-opened", "opened"),
        Input("predictions-url", "search"),
        Input("predictions-opened", "opened"),
        *_CONTROLS,
    )
    def agree(search: str | None, is_open: Any, *controls: Any) -> tuple[Any, ...]:
        if ctx.triggered_id in (None, "predictions-url"):
            return (no_update, *_controls_of(filters_of(search or "")), bool(job_id_of(search or "")))
        if ctx.triggered_id == "predictions-opened":
            asked = no_update if is_open else search_of(filters_of(search or ""))
            return (asked, *[no_update] * len(_CONTROLS), no_update)
        return (search_of(_filters_from(controls)), *[no_update] * len(_CONTROLS), False)

    @app.callback(Output("predictions-one", "children"), Input("predictions-url", "search"))
    def show_one(search: str | None) -> Any:
        job_id = job_id_of(search or "")
        if not job_id:
            raise PreventUpdate
        snapshot = parts.reader.latest
        row = next((row for row in viewer().own(snapshot.jobs) if row.id == job_id), None)
        return opened(row, job_id, snapshot.thumbnails)


def _gallery(snapshot: Snapshot, who: Viewer, filters: Filters) -> tuple[dict[str, Any], str, str]:
    rows = shown(who.own(snapshot.jobs), filters, snapshot.at_s)
    fit = f"{count(len(rows), 'job fits', 'jobs fit')} the filters, {remembered(snapshot)}"
    note = f"{fit}; the newest {SHOWN} are shown." if len(rows) > SHOWN else f"{fit}."
    search, tiles = search_of(filters), plain(gallery(rows, filters, snapshot.thumbnails))
    # With the sequence no two are equal: the browser looks again at what it has not drawn.
    return {"sequence": snapshot.sequence, "search": search, "tiles": tiles}, note, f"/predictions.csv{search}"


def _controls_of(filters: Filters) -> list[Any]:
    return [filters.label, filters.status, filters.model, str(filters.minutes), [filters.least, filters.most]]


def _filters_from(controls: tuple[Any, ...]) -> Filters:
    label, status, model, minutes, (least, most) = controls
    return Filters(label or "", status or "", model or "", least, most, int(minutes or 0))


def _try_it(app: Dash, parts: Parts) -> None:
    @app.callback(Output("try-status", "children"), Input("try-tick", "n_intervals"))
    def tell_status(_ticks: int | None) -> Any:
        return service_status(parts.reader.latest)

    @app.callback(Output("try-added", "data"), Input("try-sent", "data"), prevent_initial_call=True)
    def send(images: list[dict[str, str]] | None) -> Any:
        return data_of(sent(parts.gateway, images or [], viewer().api_key))

    @app.callback(
        Output("try-told", "data"),
        Input("try-poll", "n_intervals"),
        State("try-entries", "data"),
        prevent_initial_call=True,
    )
    def follow(_ticks: int | None, data: list[dict[str, Any]]) -> Any:
        return data_of(followed(parts.gateway, entries_of(data), viewer().api_key))

    @app.callback(
        Output("try-results", "children"),
        Output("try-poll", "disabled"),
        Input("try-entries", "data"),
    )
    def show_results(data: list[dict[str, Any]]) -> Any:
        entries = entries_of(data)
        return [result(entry) for entry in entries], not any(entry.is_open for entry in entries)

    # What is better done where the images are:
    taken = Output("try-sent", "data"), Output("try-note", "children")
    _in_browser(app, "take", *taken, Input("try-upload", "contents"), State("try-upload", "filename"))
    news = Input("try-added", "data"), Input("try-told", "data")
    _in_browser(app, "merge", Output("try-entries", "data"), *news, State("try-entries", "data"))
    preview = {"type": "preview", "key": ALL}
    _in_browser(app, "preview", Output(preview, "src"), Input("try-results", "children"), State(preview, "id"))


def _in_browser(app: Any, function: str, *arguments: Any) -> None:
    """A callback that is a function of `assets/pawqueue.js`."""
    is_first_too = function == "arrive"
    app.clientside_callback(ClientsideFunction("pawqueue", function), *arguments, prevent_initial_call=not is_first_too)
