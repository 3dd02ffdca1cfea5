"""Checks that ports are free, and picks free ones."""

import socket
from collections.abc import Iterator

import pytest

from deploy.local.errors import UsageError
from deploy.local.ports import Port, all_free, check_ports, pick_ports, port_problem


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _port(number: int, variable: str = "PAWQUEUE_GATEWAY_PORT") -> Port:
    return Port("the gateway", variable, "127.0.0.1", number)


def test_free_ports_pass_the_check() -> None:
    first = pick_ports(2)

    check_ports([_port(first), _port(first + 1, "PAWQUEUE_DASHBOARD_PORT")])


def test_the_error_for_a_port_in_use_names_its_variable(taken: int) -> None:
    with pytest.raises(UsageError, match=f"Port {taken} for the gateway .* set PAWQUEUE_GATEWAY_PORT to another port"):
        check_ports([_port(taken)])


def test_one_port_for_two_services_is_rejected() -> None:
    first = pick_ports(1)

    with pytest.raises(UsageError, match="Set PAWQUEUE_DASHBOARD_PORT to another port"):
        check_ports([_port(first), _port(first, "PAWQUEUE_DASHBOARD_PORT")])


def test_a_port_is_free_immediately_after_its_server_has_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", number)) as client, server.accept()[0]:
            client.sendall(b"x")

    assert port_problem("127.0.0.1", number) == ""


def test_an_invalid_host_is_reported() -> None:
    assert "not an address" in port_problem("not an address", 8000)


def test_picked_ports_are_free() -> None:
    first = pick_ports(4)

    assert all_free(range(first, first + 4))
