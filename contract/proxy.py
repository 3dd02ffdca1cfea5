"""Requests that arrive through a reverse proxy: WSGI middleware that the gateway and the dashboard share.

It corrects the WSGI variables, so code that writes URLs, sets cookies or logs addresses needs no settings of its own.
Standard library only.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

Application = Callable[..., Iterable[bytes]]
Network = IPv4Network | IPv6Network

#: The WSGI variable that keeps the `Host` header where `X-Forwarded-Host` has replaced it.
CONNECTION_HOST = "pawqueue.connection_host"
#: A prefix is written into pages and `Location` headers unquoted, so it may not contain characters that need quoting.
_PREFIX = re.compile(r"(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._~-]+)+")


def is_prefix(text: str) -> bool:
    """Whether `text` is a normalized path prefix such as `/paw` or `/apps/paw`."""
    return _PREFIX.fullmatch(text) is not None


def parse_networks(text: str) -> tuple[Network, ...]:
    """The IP addresses and networks in a list separated by commas.

    Raises:
        ValueError: an item is neither.
    """
    return tuple(ip_network(item.strip()) for item in text.split(",") if item.strip())


def behind_proxy(application: Application, prefix: str, trusted: Sequence[Network]) -> Application:
    """`application` behind a proxy, or unchanged if there is neither a prefix nor a trusted proxy."""
    return BehindProxy(application, prefix, trusted) if prefix or trusted else application


class TrustedProxies:
    """The proxies whose headers count."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks
        #: Cached, because it is called for every request.
        self.trusts = lru_cache(maxsize=1024)(self._trusts)

    def client_address(self, peer: str, forwarded_for: str) -> str:
        """The address that connected to the outermost trusted proxy; addresses listed before it may be forged.

        Args:
            peer: Address of the connection.
            forwarded_for: The values of `X-Forwarded-For`, which count only if `peer` is a trusted proxy.
        """
        client = peer
        if self.trusts(peer):
            for text in reversed(forwarded_for.split(",")):
                address = _address(text)
                if address is None:
                    break
                client = str(address)
                if not self.trusts(text):
                    break
        return client

    def _trusts(self, text: str) -> bool:
        """Whether an address is that of a trusted proxy."""
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)


class BehindProxy:
    """Calls an application with the URL and the address that the client used.

    The path prefix moves from `PATH_INFO` to `SCRIPT_NAME`. A path without it stays as it is: the proxy may have
    removed it, and health checks do not use it. `X-Forwarded-Proto`, `-Host`, `-For` and, unless a prefix is given,
    `-Prefix` count only if the connection comes from a trusted proxy. Of a list, the last value counts, which is the
    one that this proxy added.
    """

    def __init__(self, application: Application, prefix: str, trusted: Sequence[Network]) -> None:
        """Wrap an application.

        Args:
            application: The WSGI application.
            prefix: Path under which it is published, normalized; empty to let trusted proxies name it.
            trusted: Addresses of the trusted proxies.
        """
        self._application = application
        self._prefix = prefix
        self._proxies = TrustedProxies(trusted)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Correct `environ` and call the application."""
        prefix = self._prefix
        peer = environ.get("REMOTE_ADDR", "")
        if self._proxies.trusts(peer):
            prefix = prefix or _forwarded_prefix(environ)
            if (scheme := _last(environ, "HTTP_X_FORWARDED_PROTO").lower()) in ("http", "https"):
                environ["wsgi.url_scheme"] = scheme
            if host := _last(environ, "HTTP_X_FORWARDED_HOST"):
                environ[CONNECTION_HOST] = environ.get("HTTP_HOST", "")
                environ["HTTP_HOST"] = host
            environ["REMOTE_ADDR"] = self._proxies.client_address(peer, environ.get("HTTP_X_FORWARDED_FOR", ""))
        if prefix:
            path = environ["PATH_INFO"]
            environ["SCRIPT_NAME"] = prefix
            if path == prefix or path.startswith(f"{prefix}/"):
                environ["PATH_INFO"] = path[len(prefix) :]
        return self._application(environ, start_response)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An IP address, which some proxies write with a port; None if it is not one."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    # A socket that accepts IPv4 and IPv6 reports 10.0.0.1 as ::ffff:10.0.0.1.
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _forwarded_prefix(environ: dict[str, Any]) -> str:
    prefix = _last(environ, "HTTP_X_FORWARDED_PREFIX").rstrip("/")
    return prefix if is_prefix(prefix) else ""


def _last(environ: dict[str, Any], name: str) -> str:
    """The last value of a header that may be a list; empty if it is missing."""
    value: str = environ.get(name, "")
    return value.rpartition(",")[2].strip()
