"""A gateway that asks for API keys, on the stack that the tests share."""

from collections.abc import Iterator

import pytest

from tests.support.services import Gateway, Stack


@pytest.fixture(scope="session")
def keyed(stack: Stack) -> Iterator[Gateway]:
    with stack.another_gateway(access="required", predict_wait_s=20) as gateway:
        yield gateway
