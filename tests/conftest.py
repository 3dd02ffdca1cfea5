"""Fixtures shared by all tests: Redis, the ledger, the running services, real photographs."""

import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from contract.ledger.ledger import Ledger
from contract.log import configure_logging
from tests.support.ledger import patient_client
from tests.support.services import ROOT, Stack, running_redis, running_stack


def pytest_collection_finish() -> None:
    """Exclude the collected tests from garbage collection, because they exist until the end of the run."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure() -> None:
    """Collect garbage once instead of ten times during shutdown, which saves two seconds."""
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    """Configure logging and garbage collection, and remove the settings of the caller's shell."""
    gc.set_threshold(100_000, 50, 100)  # the default takes a tenth of the unit tests' time
    configure_logging("info", "tests")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # logs one line per request
    for name in [name for name in os.environ if name.startswith("PAWQUEUE_") and name != "PAWQUEUE_DATA"]:
        del os.environ[name]
    os.environ["PAWQUEUE_GATEWAY_METRICS_PORT"] = "0"  # any free port, because tests run several gateways at once
    os.environ["PAWQUEUE_NOTIFIER_METRICS_PORT"] = "0"
    os.environ["PAWQUEUE_MEASURE_S"] = "0"  # a worker starts faster if it does not measure


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis that the whole run shares. Use `clean_redis` for an empty one."""
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def clean_redis(redis_url: str) -> Iterator[str]:
    """The URL of an empty Redis."""
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("appendfsync", "no")  # these tests do not depend on the disk
        client.flushall()
        yield redis_url
        client.flushall()


@pytest.fixture
def redis_client(clean_redis: str) -> Iterator["redis.Redis"]:
    """A client of an empty Redis."""
    with patient_client(clean_redis) as client:
        yield client


@pytest.fixture
def ledger(redis_client: "redis.Redis") -> Ledger:
    """A ledger on an empty Redis."""
    return Ledger(redis_client)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Running services: Redis, a gateway, and a worker with the shipped model."""
    with running_stack(tmp_path_factory.mktemp("stack")) as services:
        yield services


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The folder of real photographs, which are not in the repository. `PAWQUEUE_DATA=none` skips their tests."""
    if os.environ.get("PAWQUEUE_DATA") == "none":
        pytest.skip("PAWQUEUE_DATA=none skips tests that need real photographs")
    folder = Path(os.environ.get("PAWQUEUE_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        missing = f"no photographs at {folder}: set PAWQUEUE_DATA to a folder of labeled images"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return folder
