"""The Dash application around its parts: pages, files, headers, access."""

from dash import Dash
from flask import Flask, Response, request

from contract.job import is_job_id
from dashboard.callbacks import register_callbacks
from dashboard.job_rows import filters_of
from dashboard.layout import shell
from dashboard.parts import Parts
from dashboard.viewers import protect, viewer
from dashboard.views.predictions import csv_of, shown

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
#: Uploads come in Base64, up to twenty at a time.
_BODY_MAX_BYTES = 150_000_000


def create_dashboard(parts: Parts) -> Flask:
    """Build the application; its reader is to be started by the caller."""
    server = Flask("dashboard", static_folder=None)
    server.config["MAX_CONTENT_LENGTH"] = _BODY_MAX_BYTES
    server.config["COMPRESS_ALGORITHM"] = ["zstd", "gzip"]  # of those that browsers take, the cheapest
    protect(server, parts.access)  # before Dash, whose own hooks must come after
    app = Dash(
        __name__,
        server=server,  # type: ignore[arg-type]  # it takes an application, whatever its annotation says
        title="Pawqueue",
        update_title="",
        index_string=_INDEX,
        compress=True,
        suppress_callback_exceptions=True,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.layout = lambda: shell(signed_in=parts.access.required)
    register_callbacks(app, parts)
    _files(server, parts)
    _headers(server, app)
    return server


def _files(server: Flask, parts: Parts) -> None:
    @server.get("/healthz")
    def alive() -> dict[str, str]:
        return {"status": "alive"}

    @server.get("/thumbnails/<job_id>")
    def thumbnail(job_id: str) -> tuple[str, int] | Response:
        snapshot, who = parts.reader.latest, viewer()
        data = snapshot.thumbnails.get(job_id) if is_job_id(job_id) else None
        is_own = who.sees_all or any(row.id == job_id for row in who.own(snapshot.jobs))
        if data is None or not is_own:
            return "There is no such thumbnail.", 404
        return Response(data, mimetype="image/webp", headers={"Cache-Control": "private, max-age=3600"})

    @server.get("/predictions.csv")
    def download() -> Response:
        snapshot = parts.reader.latest
        rows = shown(viewer().own(snapshot.jobs), filters_of(request.query_string.decode()), snapshot.at_s)
        name = {"Content-Disposition": 'attachment; filename="predictions.csv"'}
        return Response(csv_of(rows), mimetype="text/csv", headers=name)


def _headers(server: Flask, app: Dash) -> None:
    """Tell browsers to be strict: nothing from elsewhere, no scripts but ours."""
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
    def finish(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "same-origin"
        return response
