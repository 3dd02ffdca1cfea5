"""Ports: whether those that the settings name are free, and free ones where nobody named any."""

import random
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deploy.local.errors import UsageError

#: Below the range that systems hand to outgoing connections, so that none of those takes a port just found free.
_RANDOM_PORTS = range(20_000, 30_000)
_TRIES = 200


@dataclass(frozen=True, slots=True)
class Port:
    """One port that a service is about to listen on."""

    service: str
    #: The variable that names it.
    variable: str
    host: str
    number: int


def check_ports(ports: Sequence[Port]) -> None:
    """Pass if every port is free and none is named twice.

    Raises:
        UsageError: the first one that is not.
    """
    users: dict[int, Port] = {}
    for port in ports:
        other = users.setdefault(port.number, port)
        if other is not port:
            raise UsageError(
                f"Port {port.number} is given to {other.service} and to {port.service}: "
                f"set {port.variable} to another one."
            )
        problem = why_not(port.host, port.number)
        if problem:
            raise UsageError(
                f"Port {port.number} for {port.service} {problem}: stop what uses it, "
                f"or set {port.variable} to another port."
            )


def why_not(host: str, number: int) -> str:
    """What keeps a service from listening there; empty if nothing does."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except PermissionError:
        return "may not be opened by this user"
    except socket.gaierror:
        return f"cannot be opened, {host} being no address"
    except OSError as error:
        return f"on {host} is not free ({error.strerror})"
    return ""


def pick_ports(count: int) -> int:
    """First of `count` free ports in a row on this machine.

    Raises:
        UsageError: there are none.
    """
    for _ in range(_TRIES):
        first = random.choice(_RANDOM_PORTS)  # noqa: S311 - no secret
        if all_free(range(first, first + count)):
            return first
    raise UsageError(f"No {count} free ports in a row were found: name some by PAWQUEUE_GATEWAY_PORT and the like.")


def all_free(numbers: Iterable[int]) -> bool:
    """Whether all these ports are free on this machine."""
    return not any(why_not("127.0.0.1", number) for number in numbers)
