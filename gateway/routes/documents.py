"""`/openapi.json`, and its two readers `/docs` (Swagger UI) and `/redoc`: every byte of them comes from here."""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, send_file, send_from_directory

from contract.errors import NotFoundError
from gateway.routing import Routes

#: Asset -> the package that carries it.
_ASSETS = {
    "swagger-ui.css": "flask_openapi3_swagger/templates/swagger/css",
    "swagger-ui-bundle.js": "flask_openapi3_swagger/templates/swagger/js",
    "redoc.standalone.js": "flask_openapi3_redoc/templates/redoc/js",
    "docs.js": "gateway/pages",
    "redoc.js": "gateway/pages",
    "pages.css": "gateway/pages",
}
_ASSETS_KEPT_S = 86_400
_CACHED = f"public, max-age={_ASSETS_KEPT_S}"
#: The one image that ReDoc fetches from elsewhere, and an empty one in its place.
_LOGO, _NO_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"data:,"
#: The pages may run what comes from here and nothing else; both put styles and images into the page by themselves.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def document_routes(parts: Sequence[Routes], *, access_is_required: bool) -> Blueprint:
    """The routes of the document of `parts`; they stand outside the document that they serve."""
    routes = Blueprint("documents", __name__)

    @cache
    def written() -> dict[str, Any]:
        # Loaded here: a gateway whose document nobody reads starts sooner and holds less.
        from gateway.openapi import write_document  # noqa: PLC0415 - see above

        return write_document(parts, access_is_required=access_is_required)

    @routes.get("/openapi.json")
    def document() -> Response:
        return jsonify(written())

    @routes.get("/docs")
    def docs() -> Response:
        return _page("docs.html")

    @routes.get("/redoc")
    def redoc() -> Response:
        return _page("redoc.html")

    @routes.get("/docs/<name>")
    def asset(name: str) -> Response:
        if name not in _ASSETS:
            raise NotFoundError("There is no such page. The documentation is at `/docs` and `/redoc`.")
        if name == "redoc.standalone.js":
            return Response(_redoc(), mimetype="text/javascript", headers={"Cache-Control": _CACHED})
        return send_from_directory(_folder(_ASSETS[name]), name, max_age=_ASSETS_KEPT_S)

    return routes


@cache
def _redoc() -> bytes:
    name = "redoc.standalone.js"
    return (_folder(_ASSETS[name]) / name).read_bytes().replace(_LOGO, _NO_LOGO)


def _page(name: str) -> Response:
    response = send_file(_folder("gateway/pages") / name)
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


def _folder(place: str) -> Path:
    package, _, path = place.partition("/")
    return Path(str(resources.files(package))) / path
