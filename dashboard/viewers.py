"""Who looks: nobody in particular, or whoever has signed in with an API key."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask import Flask, Response, g, redirect, request
from flask.typing import ResponseReturnValue

from contract.access import Access, Scope
from contract.errors import ForbiddenError, PawqueueError
from dashboard.job_rows import JobRow
from dashboard.sign_in import sign_in_page

COOKIE = "pawqueue_dashboard"
_SESSION_S = 12 * 3600
_SESSIONS_MAX = 1000
#: What needs no API key: signing in, and files that are the same for everybody.
_OPEN = ("/healthz", "/sign-in", "/assets/", "/_dash-component-suites/", "/_favicon.ico")


@dataclass(frozen=True, slots=True)
class Viewer:
    """What a viewer may see."""

    #: Id of the API key; empty where none is asked for.
    owner: str = ""
    sees_all: bool = True
    api_key: str = ""

    @property
    def scope(self) -> str:
        """Whose jobs are seen; empty for everybody's."""
        return "" if self.sees_all else self.owner

    def own(self, rows: Sequence[JobRow]) -> Sequence[JobRow]:
        """The jobs that this viewer may see."""
        return rows if self.sees_all else [row for row in rows if row.owner == self.owner]


def viewer() -> Viewer:
    """Who the request comes from."""
    found: Viewer = g.get("viewer") or Viewer()
    return found


class Sessions:
    """API keys of those who are signed in, in the memory of this process alone, by a random cookie."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def open(self, api_key: str) -> str:
        """Begin one; returns the cookie."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._keys[token] = (api_key, self._clock() + _SESSION_S)
            while len(self._keys) > _SESSIONS_MAX:
                self._keys.popitem(last=False)
        return token

    def api_key(self, token: str) -> str:
        """The API key of a cookie; empty once it has run out."""
        with self._lock:
            api_key, end_s = self._keys.get(token, ("", 0.0))
        return api_key if self._clock() < end_s else ""

    def close(self, token: str) -> None:
        """End one."""
        with self._lock:
            self._keys.pop(token, None)


def protect(app: Flask, access: Access) -> None:
    """Have `app` ask for an API key, where the dashboard is to; each request is checked anew."""
    if not access.required:
        return
    sessions = Sessions()

    @app.before_request
    def admit() -> ResponseReturnValue | None:
        if request.path.startswith(_OPEN):
            return None
        try:
            g.viewer = viewer_of(access, _credential() or sessions.api_key(request.cookies.get(COOKIE, "")))
        except PawqueueError as error:
            return _refuse(error)
        return None

    @app.route("/sign-in", methods=["GET", "POST"])
    def sign_in() -> ResponseReturnValue:
        if request.method == "GET":
            return sign_in_page("")
        api_key = request.form.get("api_key", "").strip()
        try:
            viewer_of(access, api_key)
        except PawqueueError as error:
            return sign_in_page(error.detail), error.http_status
        return _with_cookie(redirect("/"), sessions.open(api_key))

    @app.post("/sign-out")
    def sign_out() -> ResponseReturnValue:
        sessions.close(request.cookies.get(COOKIE, ""))
        return _with_cookie(redirect("/sign-in"), "")


def viewer_of(access: Access, api_key: str) -> Viewer:
    """What an API key lets its holder see: all with the scope `admin`, with `read` one's own jobs.

    Raises:
        PawqueueError: nothing, or it cannot be told just now.
    """
    try:
        return Viewer(access.check(api_key, Scope.ADMIN).owner, sees_all=True, api_key=api_key)
    except ForbiddenError:
        return Viewer(access.check(api_key, Scope.READ).owner, sees_all=False, api_key=api_key)


def _credential() -> str:
    bearer, _, text = request.headers.get("Authorization", "").partition(" ")
    return text.strip() if bearer.lower() == "bearer" else request.headers.get("X-API-Key", "").strip()


def _refuse(error: PawqueueError) -> ResponseReturnValue:
    if request.method == "GET" and request.accept_mimetypes.accept_html and not request.path.startswith("/_dash"):
        return redirect("/sign-in") if error.http_status == 401 else (sign_in_page(error.detail), error.http_status)
    return {"code": error.code, "detail": error.detail}, error.http_status


def _with_cookie(response: "Response | object", token: str) -> ResponseReturnValue:
    assert isinstance(response, Response)  # noqa: S101 - Flask's redirects are
    age_s = _SESSION_S if token else 0
    response.set_cookie(
        COOKIE, token, max_age=age_s, httponly=True, samesite="Strict", secure=request.is_secure, path="/"
    )
    return response
