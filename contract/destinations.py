"""To which URLs the service sends requests that clients choose: public addresses, and those that an operator allows.

Start reading at `Destinations`. `outbound.py` sends the requests.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from contract.proxy import Network

URL_MAX = 2000
_PORTS = {"http": 80, "https": 443}
_FIRST_FREE_PORT = 1024

Address = IPv4Address | IPv6Address

#: Networks that are not public, by RFC 6890 and its updates, and the address at which Azure serves metadata.
_REFUSED_4 = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
    )
)
#: All public IPv6 addresses are in the first network; the others are parts of it that are not public, or that contain
#: an IPv4 address to which a relay would forward (Teredo, 6to4).
_PUBLIC_6 = ip_network("2000::/3")
_REFUSED_6 = tuple(ip_network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
#: IPv6 addresses whose last 32 bits are the IPv4 address that is reached: mapped ones, and those of NAT64.
_EMBEDDING_6 = (ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96"))


class ForbiddenUrlError(Exception):
    """Requests to this URL are never sent; the message says why."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """An exception to the rules: a host or a network, and a port of it, or any port."""

    host: str = ""
    network: Network | None = None
    port: int | None = None

    def covers(self, host: str, address: Address | None, port: int) -> bool:
        """Whether it allows this address of a host; without an address, whether it allows the host by its name."""
        if self.port not in (None, port):
            return False
        if self.network is None:
            return host == self.host
        return address is not None and address.version == self.network.version and address in self.network


def parse_allowed(text: str) -> tuple[Allowed, ...]:
    """Read hosts, addresses and networks, each with an optional port, separated by commas.

    Raises:
        ValueError: an item is none of these.
    """
    return tuple(_parse_item(item) for part in text.split(",") if (item := part.strip()))


def _parse_item(item: str) -> Allowed:
    if "/" in item:
        return Allowed(network=ip_network(item))
    if item.count(":") > 1 and not item.startswith("["):
        return Allowed(network=ip_network(item))  # an IPv6 address without a port
    parts = urlsplit(f"//{item}")
    host, port = parts.hostname, parts.port
    if not host or parts.username is not None or (port is None and item.endswith(":")):
        raise ValueError(f"{item!r} is not a host, an address or a network")
    address = _literal(host)
    return Allowed(network=ip_network(address), port=port) if address else Allowed(host=host, port=port)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads."""

    host: str
    port: int
    #: Path and query.
    path: str
    is_https: bool

    @property
    def authority(self) -> str:
        """Host and port, as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.is_https else "http"] else f"{host}:{self.port}"


class Destinations:
    """Decides to which URLs and addresses requests may be sent; safe to share between threads."""

    def __init__(self, allowed: Sequence[Allowed], setting: str) -> None:
        """Create the rules. `setting` is the variable with what is allowed, for messages."""
        self._allowed = allowed
        self._setting = setting

    def check_url(self, url: str) -> None:
        """Check what can be checked without resolving the name.

        Raises:
            ForbiddenUrlError: requests to this URL are never sent.
        """
        target = self.target(url)
        address = _literal(target.host)
        if address:
            self.check_address(target, address)
        elif (target.host == "localhost" or target.host.endswith(".localhost")) and not self._allows(target, None):
            raise self._not_public(target.host)

    def target(self, url: str) -> Target:
        """Where a URL leads, before its name is resolved.

        Raises:
            ForbiddenUrlError: it is not a URL to which requests are sent.
        """
        target = _target(url)
        self._check_port(target)
        return target

    def check_address(self, target: Target, address: Address) -> None:
        """Check an address to which the name of a target was resolved.

        Raises:
            ForbiddenUrlError: it is not public, and not allowed.
        """
        if not is_public(address) and not self._allows(target, address):
            raise self._not_public(target.host, str(address))

    def _check_port(self, target: Target) -> None:
        """Mail servers and others would take parts of a request for commands, so their ports are refused."""
        if target.port in _PORTS.values() or target.port >= _FIRST_FREE_PORT:
            return
        if not any(item.port == target.port for item in self._allowed):
            raise ForbiddenUrlError(f"Port {target.port} is not allowed: use 80, 443 or one from {_FIRST_FREE_PORT}.")

    def _allows(self, target: Target, address: Address | None) -> bool:
        return any(item.covers(target.host, address, target.port) for item in self._allowed)

    def _not_public(self, host: str, address: str = "") -> ForbiddenUrlError:
        resolved = f" ({address})" if address not in ("", host) else ""
        return ForbiddenUrlError(
            f"{host}{resolved} is not a public address. An operator can allow it with {self._setting}."
        )


def is_public(address: Address) -> bool:
    """Whether an address is reached over the Internet, and is not one at which a cloud serves metadata."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_4)
    if any(address in network for network in _EMBEDDING_6):
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _PUBLIC_6 and not any(address in network for network in _REFUSED_6)


def _target(url: str) -> Target:
    if len(url) > URL_MAX:
        raise ForbiddenUrlError(f"The URL is longer than {URL_MAX} characters.")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ForbiddenUrlError("The URL contains a character that must be percent-encoded, or a name not in Punycode.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ForbiddenUrlError(f"Not a URL: {error}.") from None
    _check_parts(parts)
    if not (host and host.strip(".")) or port == 0:
        raise ForbiddenUrlError("The URL has no host, or port 0.")
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    return Target(host.rstrip("."), port or _PORTS[parts.scheme], path, parts.scheme == "https")


def _check_parts(parts: SplitResult) -> None:
    if parts.scheme not in _PORTS:
        raise ForbiddenUrlError("The URL must start with https:// or http://.")
    if "@" in parts.netloc:
        raise ForbiddenUrlError("The URL must not contain a user name or a password.")
    if parts.fragment:
        raise ForbiddenUrlError("The URL must not have a fragment (#).")


def _literal(host: str) -> Address | None:
    """The address that a host is, in any notation that the system resolves without asking; None for a name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))  # such as 127.1 or 0x7f000001
    except OSError:
        return None
