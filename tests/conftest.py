"""Fixtures that several parts of the tests share."""

import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from contract.ledger.ledger import Ledger
from contract.log import configure_logging
from tests.support.services import ROOT, Stack, running_redis, running_stack


def pytest_collection_finish() -> None:
    """What the collection holds stays to the end: the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure() -> None:
    """What ten collections would look through after the last test, one has; two seconds of the unit tests."""
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    """Tests see the settings they make themselves, never those of the caller's shell."""
    gc.set_threshold(100_000, 50, 100)  # it took a tenth of the unit tests' time
    configure_logging("info", "tests")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line a request would bury what a failed test says
    for name in [name for name in os.environ if name.startswith("PAWQUEUE_") and name != "PAWQUEUE_DATA"]:
        del os.environ[name]


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis, the same for the whole run; its tests leave no keys behind."""
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def clean_redis(redis_url: str) -> Iterator[str]:
    """The Redis, empty before and after."""
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("appendfsync", "no")  # these tests kill no Redis: they need not wait for the disk
        client.flushall()
        yield redis_url
        client.flushall()


@pytest.fixture
def ledger(clean_redis: str) -> Iterator[Ledger]:
    """The job ledger on an empty Redis."""
    with redis.Redis.from_url(clean_redis, decode_responses=True, socket_timeout=60) as client:
        yield Ledger(client)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Redis, gateway and a worker with the shipped model, in processes of their own."""
    with running_stack(tmp_path_factory.mktemp("stack")) as services:
        yield services


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The folder of real photographs, which are not part of the project; `PAWQUEUE_DATA=none` does without."""
    if os.environ.get("PAWQUEUE_DATA") == "none":
        pytest.skip("real photographs are done without: PAWQUEUE_DATA=none")
    folder = Path(os.environ.get("PAWQUEUE_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        missing = f"no photographs at {folder}: set PAWQUEUE_DATA to a folder of labelled images"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return folder
