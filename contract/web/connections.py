"""Limits on connections: the longest idle ones make room for new ones, and room for health checks always remains."""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from socket import SHUT_RDWR
from typing import Any

from contract.proxy import TrustedProxies
from contract.web.limits import Refusal, Refusals, WebLimits

#: Connections beyond the limits, on which only health checks are answered. More than the server accepts at once, so
#: that a new connection is read before others displace it.
SPARE = 128
#: Last parts of the paths of health checks.
_CHECKS = ("healthz", "readyz")
_BODY_FIELDS = frozenset({"CONTENT-LENGTH", "TRANSFER-ENCODING"})
_IPV6_PREFIX = 64


@lru_cache(maxsize=4096)
def caller_of(address: str) -> str:
    """What counts as one client: an IPv4 address or an IPv6 network of 64 bits, of which one machine may have any."""
    with suppress(ValueError):
        parsed = ip_address(address.partition("%")[0])
        if isinstance(parsed, IPv6Address):
            if parsed.ipv4_mapped:
                return str(parsed.ipv4_mapped)
            return str(IPv6Network((int(parsed), _IPV6_PREFIX), strict=False))
    return address


def is_check(path: str, fields: Iterable[tuple[str, str]]) -> bool:
    """Whether a request is a health check, with any prefix. One with a body could stay in progress for minutes."""
    return path.rpartition("/")[2] in _CHECKS and _BODY_FIELDS.isdisjoint(name for name, _ in fields)


@dataclass(slots=True, eq=False)
class _Address:
    """The connections from one address."""

    is_trusted: bool
    count: int = 0
    #: Connections without a request in progress, longest idle first, and when they became idle.
    idle: dict[Any, float] = field(default_factory=dict)
    #: Its place in the order in which addresses lose connections; None without idle ones.
    rank: tuple[bool, int] | None = None


@dataclass(slots=True, eq=False)
class _Connection:
    address: str
    #: Whose request is in progress; None while idle.
    client: str | None = None


class Connections:
    """The open connections. All methods must be called from one thread.

    A connection is idle until the head of a request is complete. Idle connections are closed, longest idle first, when
    an address or all addresses together have more connections than allowed, so silent clients lock nobody out. A
    trusted proxy may have any number of connections; the requests on them count for the client that sent them.
    """

    def __init__(self, limits: WebLimits, proxies: TrustedProxies, refusals: Refusals) -> None:
        self._limits = limits
        self._proxies = proxies
        self._refusals = refusals
        self._open: dict[Any, _Connection] = {}
        self._addresses: dict[str, _Address] = {}
        #: The addresses with idle connections by rank. There are many addresses, but few ranks.
        self._by_rank: dict[tuple[bool, int], dict[_Address, None]] = {}
        self._active = 0
        self._active_by_client: dict[str, int] = {}

    def add(self, sock: Any, peer: str) -> None:
        """Register a new connection; closes idle ones if there are too many."""
        address = caller_of(peer)
        found = self._addresses.get(address)
        if found is None:
            found = self._addresses[address] = _Address(self._proxies.trusts(peer))
        found.count += 1
        found.idle[sock] = time.monotonic()
        self._open[sock] = _Connection(address)
        self._update_rank(found)
        if found.count > self._limits.connections_per_address + SPARE and not found.is_trusted:
            self._displace(found)
        elif len(self._open) > self._limits.connections + SPARE:
            self._displace(next(iter(self._by_rank[max(self._by_rank)])))

    def begin(self, sock: Any, client: str, *, is_check: bool) -> bool:
        """Register that a request of `client` is complete up to its body; False if it must be refused."""
        connection = self._open.get(sock)
        if connection is None:
            return False  # it was displaced just now
        client = caller_of(client)
        active = self._active_by_client.get(client, 0)
        is_over = self._active >= self._limits.connections or active >= self._limits.connections_per_address
        if is_over and not is_check:
            self._refusals.count(Refusal.TOO_MANY_REQUESTS)
            return False
        connection.client = client
        address = self._addresses[connection.address]
        address.idle.pop(sock, None)
        self._update_rank(address)
        self._active += 1
        self._active_by_client[client] = active + 1
        return True

    def rest(self, sock: Any) -> None:
        """Register that the request is finished; the connection is idle again."""
        connection = self._open.get(sock)
        if connection is None or connection.client is None:
            return
        self._active -= 1
        left = self._active_by_client[connection.client] - 1
        if left:
            self._active_by_client[connection.client] = left
        else:
            del self._active_by_client[connection.client]
        connection.client = None
        address = self._addresses[connection.address]
        address.idle[sock] = time.monotonic()
        self._update_rank(address)

    def remove(self, sock: Any) -> None:
        """Register that a connection is closed."""
        self.rest(sock)
        connection = self._open.pop(sock, None)
        if connection is None:
            return
        address = self._addresses[connection.address]
        address.idle.pop(sock, None)
        address.count -= 1
        self._update_rank(address)
        if address.count == 0:
            del self._addresses[connection.address]

    def idle_for(self, time_s: float) -> list[Any]:
        """The connections that have been idle for at least `time_s`."""
        start_s = time.monotonic() - time_s
        return [
            sock for address in self._addresses.values() for sock, since_s in address.idle.items() if since_s < start_s
        ]

    def _update_rank(self, address: _Address) -> None:
        rank = (not address.is_trusted, address.count) if address.idle else None
        if rank == address.rank:
            return
        if address.rank:
            others = self._by_rank[address.rank]
            del others[address]
            if not others:
                del self._by_rank[address.rank]
        if rank:
            self._by_rank.setdefault(rank, {})[address] = None
        address.rank = rank

    def _displace(self, address: _Address) -> None:
        sock = next(iter(address.idle))
        self._refusals.count(Refusal.IDLE_CLOSED)
        self.remove(sock)
        with suppress(OSError):
            sock.shutdown(SHUT_RDWR)  # wakes the reader, which closes it
