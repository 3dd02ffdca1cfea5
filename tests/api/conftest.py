"""A gateway that asks for API keys, on the stack that the tests share."""

from collections.abc import Iterator

import pytest

from tests.support.services import Gateway, Stack


@pytest.fixture(scope="session")
def keyed(stack: Stack) -> Iterator[Gateway]:
    settings = {"access": "required", "cors_origins": "*", "wait_max_s": 2, "predict_wait_s": 20}
    with stack.another_gateway(**settings) as gateway:
        yield gateway
