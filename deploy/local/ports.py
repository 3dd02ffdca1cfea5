"""Checks that the ports in the settings are free, and finds free ports for `make demo`."""

import random
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deploy.local.errors import UsageError

#: Below the ephemeral range, where an outgoing connection could take a port that was just found free.
_RANDOM_PORTS = range(20_000, 30_000)
_TRIES = 200


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a service will listen on."""

    service: str
    #: The setting that changes it.
    variable: str
    host: str
    number: int


def check_ports(ports: Sequence[Port]) -> None:
    """Check that every port is free and that no two are equal.

    Raises:
        UsageError: a port is in use or set twice. The message names the first such port.
    """
    users: dict[int, Port] = {}
    for port in ports:
        other = users.setdefault(port.number, port)
        if other is not port:
            raise UsageError(
                f"Port {port.number} is set for both {other.service} and {port.service}. "
                f"Set {port.variable} to another port."
            )
        problem = port_problem(port.host, port.number)
        if problem:
            raise UsageError(
                f"Port {port.number} for {port.service} {problem}. Stop the program that uses it, "
                f"or set {port.variable} to another port."
            )


def port_problem(host: str, number: int) -> str:
    """Return why a service cannot listen on this address; empty if it can."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except PermissionError:
        return "needs more privileges than this user has"
    except socket.gaierror:
        return f"cannot be opened: {host} is not an address"
    except OSError as error:
        return f"on {host} is not free ({error.strerror})"
    return ""


def pick_ports(count: int) -> int:
    """The first of `count` consecutive free ports on this machine.

    Raises:
        UsageError: none were found.
    """
    for _ in range(_TRIES):
        first = random.choice(_RANDOM_PORTS)  # noqa: S311 - no secret
        if all_free(range(first, first + count)):
            return first
    raise UsageError(f"Found no {count} consecutive free ports. Set PAWQUEUE_GATEWAY_PORT and the other ports.")


def all_free(numbers: Iterable[int]) -> bool:
    """Whether all these ports are free on this machine."""
    return not any(port_problem("127.0.0.1", number) for number in numbers)
