"""Gateways that require API keys, as part of the shared stack."""

from collections.abc import Iterator

import pytest

from tests.support.services import Gateway, Stack


@pytest.fixture(scope="session")
def keyed(stack: Stack) -> Iterator[Gateway]:
    # The prefix is optional in requests, and present in every link: recipes and pages must follow links correctly.
    with stack.another_gateway(access="required", cors_origins="*", gateway_prefix="/paw") as gateway:
        yield gateway


@pytest.fixture
def short_waits(stack: Stack) -> Iterator[Gateway]:
    """A gateway that limits waits and event streams to 0.2 s; otherwise thousands of them would take too long."""
    with stack.another_gateway(access="required", wait_max_s=0.2, events_max_s=0.2) as gateway:
        yield gateway
