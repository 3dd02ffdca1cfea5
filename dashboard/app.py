"""The Dash application: pages, navigation and security headers."""

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component
from flask import Flask, Request, Response, request
from flask.typing import ResponseReturnValue

from contract.errors import ForbiddenOriginError, PawqueueError, UploadError, UploadTooLargeError
from contract.origin import OriginCheck
from dashboard import BODY_MAX_BYTES
from dashboard.pages import capacity, drift, live, models, predictions, review, try_it
from dashboard.pages.page import Page, View, current_view, in_browser, register_refresh
from dashboard.parts.card import aria, card_view
from dashboard.services import Services
from dashboard.sign_in import require_sign_in

PAGES = (live.PAGE, predictions.PAGE, review.PAGE, try_it.PAGE, models.PAGE, drift.PAGE, capacity.PAGE)
_BY_PATH = {page.path: page for page in PAGES}
#: Stands for the path prefix of the request in the URLs that Dash writes, since Dash allows only one fixed prefix.
_ROOT = "/{root}"
#: The same in the JSON inside Dash's page.
_ROOT_IN_JSON = r"\u002f{root}"
#: What each value, and each escaped character, contains. Images as Base64 contain none of these.
_JSON_PARTS = (b",", b"[", b"{", b"\\")
_JSON_PARTS_MAX = 100_000


class _Request(Request):
    """A request whose JSON, the body of a callback, is small, apart from the images in it."""

    def get_json(self, *arguments: Any, **options: Any) -> Any:
        """Parse the body.

        Raises:
            UploadError: it would take seconds and gigabytes to parse.
        """
        body = self.get_data()
        if sum(map(body.count, _JSON_PARTS)) > _JSON_PARTS_MAX:
            raise UploadTooLargeError("The request contains too many values. Send fewer.")
        try:
            return super().get_json(*arguments, **options)
        except RecursionError:
            raise UploadError("The request is nested too deeply. Send flat values.") from None


class _Dash(Dash):
    """Dash under the path prefix of each request."""

    def interpolate_index(self, *_: Any, **parts: Any) -> str:
        """The page that loads the dashboard."""
        page: str = super().interpolate_index(**parts)  # type: ignore[no-untyped-call]
        return page.replace(_ROOT, request.script_root).replace(_ROOT_IN_JSON, request.script_root)


def create_app(services: Services) -> Flask:
    """Create the application. The caller starts the reader."""
    server = Flask("dashboard", static_folder=None)
    server.request_class = _Request
    server.config["MAX_CONTENT_LENGTH"] = BODY_MAX_BYTES
    server.config["SERVICES"] = services
    server.config["COMPRESS_ALGORITHM"] = ["zstd", "gzip"]  # the fastest that browsers accept
    _check_origins(server, services.origins)  # these two first: their checks must run before Dash's hooks
    require_sign_in(server, services.access, services.rates, secure_cookie=services.secure_cookie)
    app = _Dash(
        __name__,
        server=server,  # type: ignore[arg-type]  # Dash accepts a Flask application, although its annotation does not
        routes_pathname_prefix="/",
        requests_pathname_prefix=f"{_ROOT}/",
        title="Pawqueue",
        update_title="",
        index_string=_INDEX,
        compress=True,
        suppress_callback_exceptions=True,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.layout = lambda: _frame(has_sign_out=services.access.required)
    _register_navigation(app, services)
    for page in PAGES:
        if page.cards:
            register_refresh(app, services, page)
        page.register(app, services)

    @server.errorhandler(PawqueueError)
    def refuse(error: PawqueueError) -> ResponseReturnValue:
        headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
        return {"code": error.code, "detail": error.detail}, error.http_status, headers

    @server.get("/healthz")
    def alive() -> dict[str, str]:
        return {"status": "alive"}

    _add_security_headers(server, app)
    return server


def _check_origins(server: Flask, origins: OriginCheck) -> None:
    @server.before_request
    def check_origin() -> Response | None:
        try:
            origins.check(request.environ)
        except ForbiddenOriginError as error:
            return Response(f"{error.detail}\n", error.http_status, mimetype="text/plain")
        return None


def _register_navigation(app: Dash, services: Services) -> None:
    @app.callback(
        Output("content", "children"),
        Output("nav", "children"),
        Input("url", "pathname"),
        State("url", "search"),
    )
    def show(path: str | None, search: str | None) -> tuple[Any, Any]:
        page = _BY_PATH.get(_own_path(path or "/"))
        if page is None:
            return html.P("Page not found. Choose a page above.", className="note"), _navigation("")
        return _page(page, services, current_view(services, search)), _navigation(page.path)

    in_browser(app, "openPage", Input("url", "pathname"), on_load=True)


def _own_path(path: str) -> str:
    """The path of a page without the prefix, which is absent if the browser does not use the proxy."""
    root = request.script_root
    return path[len(root) :] or "/" if path == root or path.startswith(f"{root}/") else path


def _page(page: Page, services: Services, view: View) -> Component:
    contents = page.contents(view)
    parts: list[Any] = [
        html.H1(page.title),
        html.P(page.lead, className="lead"),
        dcc.Interval(id=f"{page.name}-tick", interval=round(services.refresh_s * 1000)),
        dcc.Store(id=f"{page.name}-seen", data=view.snapshot.sequence),
        *page.layout(view, [card_view(card, contents[card.id]) for card in page.cards]),
    ]
    return html.Div(parts, className=f"page page-{page.name}")


_INDEX = """<!DOCTYPE html>
<html lang="en">
    <head>
        {%metas%}
        <title>{%title%}</title>
        {%favicon%}
        {%css%}
    </head>
    <body>
        {%app_entry%}
        <footer>
            {%config%}
            {%scripts%}
            {%renderer%}
        </footer>
    </body>
</html>
"""
_THEME = {"primaryColor": "blue", "primaryShade": {"light": 8, "dark": 6}, "fontFamily": "system-ui, sans-serif"}


def _frame(*, has_sign_out: bool) -> Component:
    """The header and the empty content area, which all pages share."""
    frame: Component = dmc.MantineProvider(
        [
            dcc.Location(id="url", refresh="callback-nav"),
            html.A("Skip to content", href="#content", className="skip"),
            html.Header(
                [
                    dcc.Link("Pawqueue", href=f"{request.script_root}/", className="brand"),
                    html.Nav(id="nav", children=_navigation("/"), **aria(label="Pages")),
                    html.Div([*([_sign_out()] if has_sign_out else []), _theme_switch()], className="tools"),
                ],
            ),
            html.Div(id="offline", role="alert", hidden=True),
            html.Main(id="content", tabIndex=-1, children=html.P("Loading ...", className="note")),
        ],
        theme=_THEME,
        defaultColorScheme="auto",
    )
    return frame


def _navigation(path: str) -> list[Component]:
    return [_link(page, is_current=page.path == path) for page in PAGES]


def _link(page: Page, *, is_current: bool) -> Component:
    current: dict[str, Any] = {"aria-current": "page"} if is_current else {}
    return html.Span(
        dcc.Link(page.title, href=f"{request.script_root}{page.path}"),
        className="is-current" if is_current else "",
        **current,
    )


def _sign_out() -> Component:
    button = html.Button("Sign out", type="submit", className="plain")
    form: Component = html.Form(button, method="post", action=f"{request.script_root}/sign-out")
    return form


def _theme_switch() -> Component:
    switch: Component = dmc.ColorSchemeToggle(
        lightIcon=html.Span("Theme: light", className="scheme"),
        darkIcon=html.Span("Theme: dark", className="scheme"),
        size="lg",
        color="gray",
        variant="default",
        **aria(label="Switch between light and dark"),
    )
    return switch


def _add_security_headers(server: Flask, app: Dash) -> None:
    scripts = " ".join(["'self'", *app.csp_hashes()])
    policy = "; ".join(
        [
            "default-src 'self'",
            f"script-src {scripts}",
            "style-src 'self' 'unsafe-inline'",  # Mantine and Plotly write styles into the page
            "img-src 'self' data: blob:",
            "frame-ancestors 'none'",
            "form-action 'self'",
            "base-uri 'none'",
        ]
    )

    @server.after_request
    def add_headers(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "same-origin"
        return response
