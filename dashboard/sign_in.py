"""Sign-in with an API key, and the jobs that the viewer may see."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask import Flask, Response, g, redirect, render_template_string, request
from flask.typing import ResponseReturnValue

from contract.access import Access, Scope
from contract.errors import ForbiddenError, PawqueueError
from dashboard.data.jobs import JobRow

COOKIE = "pawqueue_dashboard"
_SESSION_S = 12 * 3600
_SESSIONS_MAX = 1000
#: Paths that need no API key: the sign-in page, the health check and static files.
_PUBLIC = ("/healthz", "/sign-in", "/assets/", "/_dash-component-suites/", "/_favicon.ico")


@dataclass(frozen=True, slots=True)
class Viewer:
    """The person who sent the current request."""

    #: Id of their API key; empty if none is required.
    owner: str = ""
    sees_all: bool = True
    api_key: str = ""

    @property
    def cache_key(self) -> str:
        """The same for all viewers who see the same jobs."""
        return "" if self.sees_all else self.owner

    def visible(self, rows: Sequence[JobRow]) -> list[JobRow]:
        """The jobs in `rows` that this viewer may see."""
        return [row for row in rows if self.sees_all or row.owner == self.owner]


def current_viewer() -> Viewer:
    """The viewer of the current request."""
    found: Viewer = g.get("viewer") or Viewer()
    return found


def require_sign_in(app: Flask, access: Access) -> None:
    """Make `app` require an API key if `access` does. The key is checked on every request."""
    if not access.required:
        return
    sessions = Sessions()

    @app.before_request
    def check() -> ResponseReturnValue | None:
        if request.path.startswith(_PUBLIC):
            return None
        try:
            g.viewer = _check_api_key(access, _api_key_header() or sessions.api_key(request.cookies.get(COOKIE, "")))
        except PawqueueError as error:
            return _reject(error)
        return None

    @app.route("/sign-in", methods=["GET", "POST"])
    def sign_in() -> ResponseReturnValue:
        if request.method == "GET":
            return _sign_in_page("")
        api_key = request.form.get("api_key", "").strip()
        try:
            _check_api_key(access, api_key)
        except PawqueueError as error:
            return _sign_in_page(error.detail), error.http_status
        return _redirect("/", sessions.open(api_key))

    @app.post("/sign-out")
    def sign_out() -> ResponseReturnValue:
        sessions.close(request.cookies.get(COOKIE, ""))
        return _redirect("/sign-in", "")


class Sessions:
    """The API keys of signed-in viewers by session token, in the memory of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def open(self, api_key: str) -> str:
        """Start a session and return its token, which the cookie contains."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._keys[token] = (api_key, self._clock() + _SESSION_S)
            while len(self._keys) > _SESSIONS_MAX:
                self._keys.popitem(last=False)
        return token

    def api_key(self, token: str) -> str:
        """The API key of a session; empty if it is unknown or has expired."""
        with self._lock:
            api_key, end_s = self._keys.get(token, ("", 0.0))
        return api_key if self._clock() < end_s else ""

    def close(self, token: str) -> None:
        """End a session."""
        with self._lock:
            self._keys.pop(token, None)


def _check_api_key(access: Access, api_key: str) -> Viewer:
    try:
        return Viewer(access.check(api_key, Scope.ADMIN).owner, sees_all=True, api_key=api_key)
    except ForbiddenError:
        return Viewer(access.check(api_key, Scope.READ).owner, sees_all=False, api_key=api_key)


def _api_key_header() -> str:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "").strip()


def _reject(error: PawqueueError) -> ResponseReturnValue:
    is_page = request.method == "GET" and request.accept_mimetypes.accept_html and not request.path.startswith("/_dash")
    if not is_page:
        return {"code": error.code, "detail": error.detail}, error.http_status
    return (
        redirect(f"{request.script_root}/sign-in")
        if error.http_status == 401
        else (_sign_in_page(error.detail), error.http_status)
    )


def _redirect(path: str, token: str) -> ResponseReturnValue:
    """Redirect the browser to a page, with the cookie of a session; an empty token deletes the cookie."""
    root = request.script_root
    response = Response(status=302, headers={"Location": f"{root}{path}"})
    response.set_cookie(
        COOKIE,
        token,
        max_age=_SESSION_S if token else 0,
        httponly=True,
        samesite="Strict",
        secure=request.is_secure,
        path=root or "/",
    )
    return response


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · Pawqueue</title>
<link rel="icon" href="{{ root }}/_favicon.ico">
<link rel="stylesheet" href="{{ root }}/assets/style.css">
</head>
<body class="sign-in">
<main>
<h1>Pawqueue</h1>
<p>Sign in with an API key. A key with the scope <code>admin</code> shows all jobs; a key with the scope
<code>read</code> shows its own jobs. To create a key, run <code>pawqueue keys create</code>.</p>
{% if problem %}<p role="alert"><strong>{{ problem }}</strong></p>{% endif %}
<form method="post" action="{{ root }}/sign-in">
<label for="api_key">API key</label>
<input id="api_key" name="api_key" type="password" autocomplete="current-password" required>
<button type="submit">Sign in</button>
</form>
</main>
</body>
</html>
"""


def _sign_in_page(problem: str) -> str:
    return render_template_string(_PAGE, problem=problem, root=request.script_root)
