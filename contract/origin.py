"""Which web pages may use a service: the check that the gateway and the dashboard make before anything else.

A browser sends requests to this machine for any page that its user has open. Two kinds of requests are therefore
rejected. One is sent by a page of another origin, which a browser reports in `Sec-Fetch-Site` or `Origin`. The other
names a foreign host: with DNS rebinding, a page makes its own host name resolve to this machine, so that the browser
considers both the same origin. Programs that are not browsers send neither header, and are not affected. Standard
library only.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from contract.errors import ForbiddenOriginError
from contract.proxy import CONNECTION_HOST

#: Probes use any name, and the responses contain nothing worth protecting.
_OPEN_PATHS = {"/healthz", "/readyz"}
_SHOWN_MAX = 100


class OriginCheck:
    """Rejects requests for foreign hosts and from foreign pages. Safe to share between threads."""

    def __init__(self, hosts: Collection[str] | None, origins: Collection[str] = ()) -> None:
        """Create a check.

        Args:
            hosts: Host names of the service, besides `localhost` and IP addresses; None to accept every name.
            origins: Other origins whose pages may use the service, such as `https://example.org`; `*` for all.
        """
        self._hosts = None if hosts is None else frozenset(map(str.lower, hosts))
        self._origins = frozenset(map(str.lower, origins))
        #: Cached, because it is called for every request.
        self._is_own_host = lru_cache(maxsize=256)(self._is_own)

    def check(self, environ: Mapping[str, Any]) -> None:
        """Return if the request may be handled.

        Args:
            environ: The WSGI variables, after `BehindProxy` if there is one.

        Raises:
            ForbiddenOriginError: it may not.
        """
        if environ["PATH_INFO"] in _OPEN_PATHS:
            return
        host: str = environ.get("HTTP_HOST", "")
        # Not the forwarded host: a rebound page can add X-Forwarded-Host, but cannot change Host.
        connection_host: str = environ.get(CONNECTION_HOST, host)
        if self._hosts is not None and not self._is_own_host(connection_host):
            raise ForbiddenOriginError(
                f"The service does not accept requests for the host {connection_host[:_SHOWN_MAX]!r}. "
                "Use `localhost` or the IP address, or add the host name to PAWQUEUE_ALLOWED_HOSTS."
            )
        if self._is_foreign(environ, host):
            origin = environ.get("HTTP_ORIGIN", "")
            shown = f"the origin {origin[:_SHOWN_MAX]!r}" if origin else "another site"
            raise ForbiddenOriginError(
                f"A web page of {shown} sent this request. To allow its pages to call the gateway, add the origin to "
                "PAWQUEUE_CORS_ORIGINS. If the page is the service's own, have the proxy send X-Forwarded-Host, and "
                "add the proxy to PAWQUEUE_TRUSTED_PROXIES."
            )

    def _is_own(self, host: str) -> bool:
        name = _name_of(host)
        # An address cannot be rebound: it does not need to be resolved. Browsers always send a host.
        is_local = not host or name == "localhost" or name.endswith(".localhost") or _is_address(name)
        return is_local or name in (self._hosts or ())

    def _is_foreign(self, environ: Mapping[str, Any], host: str) -> bool:
        site: str = environ.get("HTTP_SEC_FETCH_SITE", "")
        origin: str = environ.get("HTTP_ORIGIN", "").lower()
        if site in ("same-origin", "none") or not (site or origin):
            return False
        if "*" in self._origins or origin in self._origins:
            return False
        if not site:  # an old browser, or a plain HTTP connection to another machine
            return _authority_of(origin) != host.lower()
        # Following a link is harmless, because the other page cannot read the response.
        return not (environ["REQUEST_METHOD"] == "GET" and environ.get("HTTP_SEC_FETCH_MODE") == "navigate")


def _name_of(host: str) -> str:
    """The name or address in a `Host` header, in lower case, without port, brackets and final dot."""
    text = host.lower()
    name = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    return name.removesuffix(".")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _authority_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
