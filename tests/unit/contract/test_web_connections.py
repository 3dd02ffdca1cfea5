"""The limits on connections with many addresses."""

import socket
import time
from contextlib import closing

from contract.proxy import TrustedProxies, parse_networks
from contract.web.connections import SPARE, Connections
from contract.web.limits import Refusals, WebLimits

_MAX = 4000


def connections() -> Connections:
    limits = WebLimits(body_max_bytes=1, bodies_max_bytes=1, caller_max_bytes=1, connections=_MAX)
    return Connections(limits, TrustedProxies(parse_networks("192.0.2.0/24")), Refusals())


def add(to: Connections, address: str) -> socket.socket:
    """Register a connection; its socket is closed, because thousands are more than a process may have open."""
    with closing(socket.socket()) as sock:
        to.add(sock, address)
    return sock


def test_a_connection_beyond_the_limit_takes_little_time_with_thousands_of_addresses() -> None:
    some = connections()
    for n in range(_MAX + SPARE):
        add(some, f"2001:db8:0:{n:x}::1")
    start_s = time.process_time()
    for n in range(1000):
        add(some, f"2001:db8:1:{n:x}::1")
    assert time.process_time() - start_s < 0.5


def test_the_address_with_the_most_connections_makes_room_first_then_the_one_idle_longest() -> None:
    some = connections()
    trusted = [add(some, "192.0.2.1") for _ in range(3)]
    many = [add(some, "198.51.100.1") for _ in range(3)]
    single = [add(some, f"2001:db8:0:{n:x}::1") for n in range(_MAX + SPARE - 6)]
    assert some.begin(many[1], "198.51.100.1", is_check=False)
    some.rest(many[1])
    assert some.begin(many[2], "198.51.100.1", is_check=False)
    assert some.begin(single[0], "2001:db8::1", is_check=False)
    for n in range(3):
        add(some, f"2001:db8:1:{n:x}::1")
    # A displaced connection is unknown.
    assert [some.begin(sock, "203.0.113.1", is_check=False) for sock in (many[0], many[1], single[1])] == [False] * 3
    assert [some.begin(sock, "203.0.113.1", is_check=False) for sock in (*trusted, single[2])] == [True] * 4
