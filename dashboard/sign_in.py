"""Sign-in with an API key, and the jobs that the viewer may see."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask import Flask, Response, g, redirect, render_template_string, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge

from contract.access import Access, Scope
from contract.errors import (
    ForbiddenError,
    PawqueueError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedFormatError,
    UploadTooLargeError,
)
from contract.rates import RateLimits
from contract.web.bodies import CALLER
from dashboard.data.jobs import JobRow

COOKIE = "pawqueue_dashboard"
_SESSION_S = 12 * 3600
_SESSIONS_PER_KEY_MAX, _SESSIONS_MAX = 100, 10_000
#: Attempts to sign in with wrong API keys from one address.
_ATTEMPTS = "30 per minute"
_FORM_MAX_BYTES = 4096
#: Paths that need no API key: the sign-in page, the health check and static files.
_PUBLIC = ("/healthz", "/sign-in", "/assets/", "/_dash-component-suites/", "/_favicon.ico")


@dataclass(frozen=True, slots=True)
class Viewer:
    """The person who sent the current request. By default, they see nothing."""

    #: Id of their API key; empty if none is required.
    owner: str = ""
    sees_all: bool = False
    api_key: str = ""

    @property
    def cache_key(self) -> str:
        """The same for all viewers who see the same jobs."""
        return "(all)" if self.sees_all else self.owner

    def visible(self, rows: Sequence[JobRow]) -> list[JobRow]:
        """The jobs in `rows` that this viewer may see."""
        if self.sees_all:
            return list(rows)
        return [row for row in rows if self.owner and row.owner == self.owner]


#: The viewer if no API key is required.
ANYONE = Viewer(sees_all=True)


def current_viewer() -> Viewer:
    """The viewer of the current request."""
    found: Viewer = g.get("viewer", Viewer())
    return found


def refusal_of(access: Access, *scopes: Scope) -> str:
    """Why the viewer may not do what needs these scopes, as a sentence; empty if they may."""
    try:
        for scope in scopes:
            access.check(current_viewer().api_key, scope)
    except PawqueueError as error:
        return error.detail
    return ""


def require_sign_in(app: Flask, access: Access, rates: RateLimits, *, secure_cookie: bool) -> None:
    """Make `app` require an API key if `access` does. Each request is checked, and counts for the key's rate limit.

    With `secure_cookie`, browsers send the cookie over HTTPS only, even if the request did not seem to arrive over it.
    """
    if access.required:
        _add_sign_in(app, access, rates, secure_cookie=secure_cookie)
    else:
        app.before_request(_see_all)


def _see_all() -> None:
    g.viewer = ANYONE


def _add_sign_in(app: Flask, access: Access, rates: RateLimits, *, secure_cookie: bool) -> None:
    sessions = Sessions()

    @app.before_request
    def check() -> ResponseReturnValue | None:
        if request.path.startswith(_PUBLIC):
            return None
        try:
            g.viewer = _authenticate(
                access, rates, _api_key_header() or sessions.api_key(request.cookies.get(COOKIE, ""))
            )
        except PawqueueError as error:
            return _reject(error)
        request.environ[CALLER] = g.viewer.owner
        return None

    @app.route("/sign-in", methods=["GET", "POST"])
    def sign_in() -> ResponseReturnValue:
        if request.method == "GET":
            return _sign_in_page("")
        try:
            api_key = _sent_api_key()
            token = sessions.open(_first_viewer(access, rates, api_key).owner, api_key)
        except PawqueueError as error:
            return _problem_page(error)
        return _redirect("/", token, is_secure=secure_cookie or request.is_secure)

    @app.post("/sign-out")
    def sign_out() -> ResponseReturnValue:
        sessions.close(request.cookies.get(COOKIE, ""))
        return _redirect("/sign-in", "", is_secure=secure_cookie or request.is_secure)


class Sessions:
    """The API keys of signed-in viewers by session token, in the memory of this process.

    Another key never ends a session: the oldest session of a key ends when the key opens too many.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        per_key_max: int = _SESSIONS_PER_KEY_MAX,
        total_max: int = _SESSIONS_MAX,
    ) -> None:
        self._clock = clock
        self._per_key_max, self._total_max = per_key_max, total_max
        self._lock = threading.Lock()
        #: API key and end by token, oldest first, by id of the key. A token starts with the id.
        self._by_owner: dict[str, OrderedDict[str, tuple[str, float]]] = {}

    def open(self, owner: str, api_key: str) -> str:
        """Start a session of the API key with the id `owner`, and return its token, which the cookie contains.

        Raises:
            UnavailableError: too many sessions of other API keys are open.
        """
        token = f"{owner}.{secrets.token_urlsafe(32)}"
        with self._lock:
            self._remove_expired()
            own = self._by_owner.get(owner, OrderedDict())
            is_full = sum(map(len, self._by_owner.values())) >= self._total_max
            if is_full and not own:
                raise UnavailableError("Too many sessions are open. Try again later, or restart the dashboard.")
            if is_full or len(own) >= self._per_key_max:
                own.popitem(last=False)
            own[token] = (api_key, self._clock() + _SESSION_S)
            self._by_owner[owner] = own
        return token

    def api_key(self, token: str) -> str:
        """The API key of a session; empty if it is unknown or has expired."""
        with self._lock:
            api_key, end_s = self._sessions_beside(token).get(token, ("", 0.0))
        return api_key if self._clock() < end_s else ""

    def close(self, token: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions_beside(token).pop(token, None)

    def _sessions_beside(self, token: str) -> OrderedDict[str, tuple[str, float]]:
        """The sessions of the same API key."""
        return self._by_owner.get(token.partition(".")[0], OrderedDict())

    def _remove_expired(self) -> None:
        now_s = self._clock()
        for owner, own in list(self._by_owner.items()):
            while own and next(iter(own.values()))[1] <= now_s:
                own.popitem(last=False)
            if not own:
                del self._by_owner[owner]


def _first_viewer(access: Access, rates: RateLimits, api_key: str) -> Viewer:
    """The viewer who signs in with an API key; limits attempts with wrong ones.

    A correct key does not count, so nobody keeps others with the same address from signing in.
    """
    try:
        return _authenticate(access, rates, api_key)
    except UnauthorizedError:
        attempts = rates.count(f"sign-in:{request.remote_addr}", _ATTEMPTS)
        attempts.check("Too many wrong API keys were sent from this address.")
        raise


def _authenticate(access: Access, rates: RateLimits, api_key: str) -> Viewer:
    viewer, rate_limit = _check_api_key(access, api_key)
    rates.count(viewer.owner, rate_limit).check("This API key has reached its rate limit.")
    return viewer


def _check_api_key(access: Access, api_key: str) -> tuple[Viewer, str]:
    """The viewer with an API key, and the rate limit of the key."""
    try:
        caller, sees_all = access.check(api_key, Scope.ADMIN), True
    except ForbiddenError:
        caller, sees_all = access.check(api_key, Scope.READ), False
    return Viewer(caller.owner, sees_all=sees_all, api_key=api_key), caller.rate_limit


def _sent_api_key() -> str:
    """The API key in the form. Other forms are not parsed: the parser for files would write them to the disk."""
    if request.mimetype != "application/x-www-form-urlencoded":
        raise UnsupportedFormatError("Send the API key as application/x-www-form-urlencoded, as the form does.")
    request.max_content_length = _FORM_MAX_BYTES
    try:
        return request.form.get("api_key", "").strip()
    except RequestEntityTooLarge:
        raise UploadTooLargeError(f"The form is larger than {_FORM_MAX_BYTES:,} bytes. Send only an API key.") from None


def _api_key_header() -> str:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "").strip()


def _reject(error: PawqueueError) -> ResponseReturnValue:
    is_page = request.method == "GET" and request.accept_mimetypes.accept_html and not request.path.startswith("/_dash")
    if not is_page:
        return {"code": error.code, "detail": error.detail}, error.http_status, _headers_of(error)
    return redirect(f"{request.script_root}/sign-in") if error.http_status == 401 else _problem_page(error)


def _problem_page(error: PawqueueError) -> ResponseReturnValue:
    return _sign_in_page(error.detail), error.http_status, _headers_of(error)


def _headers_of(error: PawqueueError) -> dict[str, str]:
    return {"Retry-After": str(error.retry_after_s or 1)} if error.retryable else {}


def _redirect(path: str, token: str, *, is_secure: bool) -> Response:
    """Redirect the browser to a page, with the cookie of a session; an empty token deletes the cookie."""
    root = request.script_root
    response = Response(status=302, headers={"Location": f"{root}{path}"})
    response.set_cookie(
        COOKIE,
        token,
        max_age=_SESSION_S if token else 0,
        httponly=True,
        samesite="Strict",
        secure=is_secure,
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
