"""What stands around and on the pages: head, navigation, cards."""

from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from dashboard.components import card, said
from dashboard.gallery import filter_bar
from dashboard.job_rows import filters_of
from dashboard.pages import PAGES, Contents, Page
from dashboard.snapshot import Snapshot
from dashboard.try_it import try_page
from dashboard.viewers import Viewer

_THEME = {"primaryColor": "blue", "primaryShade": {"light": 8, "dark": 6}, "fontFamily": "system-ui, sans-serif"}


def shell(*, signed_in: bool) -> Component:
    """The part that stays while pages come and go."""
    provider: Component = dmc.MantineProvider(
        [
            dcc.Location(id="url", refresh="callback-nav"),
            html.A("Skip to the content", href="#content", className="skip"),
            html.Header(
                [
                    dcc.Link("Pawqueue", href="/", className="brand"),
                    html.Nav(id="nav", children=navigation("/"), **said(label="Pages")),
                    html.Div([*_sign_out(signed_in=signed_in), _scheme_toggle()], className="tools"),
                ],
            ),
            html.Div(id="offline", role="alert", hidden=True),
            html.Main(id="content", tabIndex=-1, children=html.P("Loading ...", className="note")),
        ],
        theme=_THEME,
        defaultColorScheme="auto",
    )
    return provider


def navigation(path: str) -> list[Component]:
    """Links to the pages; the one that is open is marked."""
    return [_link(page, is_open=page.path == path) for page in PAGES]


def _link(page: Page, *, is_open: bool) -> Component:
    marked: dict[str, Any] = {"aria-current": "page"} if is_open else {}
    return html.Span(dcc.Link(page.title, href=page.path), className="is-open" if is_open else "", **marked)


def _sign_out(*, signed_in: bool) -> list[Component]:
    if not signed_in:
        return []
    button = html.Button("Sign out", type="submit", className="plain")
    return [html.Form(button, method="post", action="/sign-out")]


def _scheme_toggle() -> Component:
    toggle: Component = dmc.ColorSchemeToggle(
        lightIcon=html.Span("Theme: light", className="scheme"),
        darkIcon=html.Span("Theme: dark", className="scheme"),
        size="lg",
        color="gray",
        variant="default",
        **said(label="Switch between light and dark"),
    )
    return toggle


def page_layout(
    page: Page, contents: Contents, snapshot: Snapshot, viewer: Viewer, search: str, refresh_s: float
) -> Component:
    """A page with what it shows just now."""
    cards = [card(spec, contents[spec.id]) for spec in page.specs]
    parts: list[Any] = [
        html.H1(page.title),
        html.P(page.lead, className="lead"),
        dcc.Interval(id=f"{page.name}-tick", interval=round(refresh_s * 1000)),
        dcc.Store(id=f"{page.name}-seen", data=snapshot.sequence),
    ]
    if page.name == "predictions":
        parts += _predictions(snapshot, viewer, search, cards)
    elif page.name == "try":
        parts.append(try_page())
    else:
        parts.append(html.Div(cards, className="cards"))
    return html.Div(parts, className=f"page page-{page.name}")


def _predictions(snapshot: Snapshot, viewer: Viewer, search: str, cards: list[Component]) -> list[Component]:
    rows = viewer.own(snapshot.jobs)
    labels = sorted({row.label for row in rows if row.label})
    models = sorted({row.model for row in rows if row.model})
    return [
        dcc.Location(id="predictions-url", refresh="callback-nav"),
        filter_bar(labels, models, filters_of(search)),
        html.Div(
            [
                html.P(id="predictions-count", className="note", role="status"),
                html.P("Images stand still while you use them.", id="predictions-held", className="held"),
                html.A("Download as CSV", id="predictions-csv", href=f"/predictions.csv{search}", className="button"),
            ],
            className="row",
        ),
        dcc.Store(id="predictions-found"),
        html.Ul(id="predictions-gallery", className="gallery", tabIndex=-1),
        html.Div(cards, className="cards"),
        dmc.Modal(
            id="predictions-opened",
            title="Prediction",
            size="lg",
            children=html.Div(id="predictions-one"),
            closeButtonProps={"aria-label": "Close"},
        ),
    ]
