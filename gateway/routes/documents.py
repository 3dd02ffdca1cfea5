"""`/openapi.json`, and the pages that render it: `/docs` (Swagger UI) and `/redoc`. They use no CDN."""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, send_file, send_from_directory

from contract.errors import NotFoundError
from contract.settings import Settings
from gateway.http.routing import Routes, link

_PAGES = "gateway/http/pages"
#: File name -> its folder, as a path in a package.
_ASSETS = {
    "swagger-ui.css": "flask_openapi3_swagger/templates/swagger/css",
    "swagger-ui-bundle.js": "flask_openapi3_swagger/templates/swagger/js",
    "redoc.standalone.js": "flask_openapi3_redoc/templates/redoc/js",
    "docs.js": _PAGES,
    "redoc.js": _PAGES,
    "pages.css": _PAGES,
}
_MAX_AGE_S = 86_400
#: The only image that ReDoc loads from another server, and an empty one to replace it.
_LOGO, _NO_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"data:,"
#: Scripts come from this server only; both pages insert their own styles and images.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def document_routes(parts: Sequence[Routes], settings: Settings) -> Blueprint:
    """The routes that serve the OpenAPI document of `parts`."""
    routes = Blueprint("documents", __name__)

    @cache
    def openapi_document() -> dict[str, Any]:
        # Imported on first use: most gateways never serve it.
        from gateway.http.openapi import write_document  # noqa: PLC0415

        return write_document(parts, settings)

    @routes.get("/openapi.json")
    def document() -> Response:
        return jsonify(openapi_document() | {"servers": [{"url": link("") or "/"}]})

    @routes.get("/docs")
    def docs() -> Response:
        return _page("docs.html")

    @routes.get("/redoc")
    def redoc() -> Response:
        return _page("redoc.html")

    @routes.get("/docs/<name>")
    def asset(name: str) -> Response:
        if name not in _ASSETS:
            raise NotFoundError(f"No such page. The documentation is at `{link('/docs')}` and `{link('/redoc')}`.")
        if name == "redoc.standalone.js":
            headers = {"Cache-Control": f"public, max-age={_MAX_AGE_S}"}
            return Response(_redoc_script(), mimetype="text/javascript", headers=headers)
        return send_from_directory(_folder(_ASSETS[name]), name, max_age=_MAX_AGE_S)

    return routes


@cache
def _redoc_script() -> bytes:
    name = "redoc.standalone.js"
    return (_folder(_ASSETS[name]) / name).read_bytes().replace(_LOGO, _NO_LOGO)


def _page(name: str) -> Response:
    response = send_file(_folder(_PAGES) / name)
    response.headers["Content-Security-Policy"] = _PAGE_POLICY
    return response


def _folder(name: str) -> Path:
    package, _, path = name.partition("/")
    return Path(str(resources.files(package))) / path
