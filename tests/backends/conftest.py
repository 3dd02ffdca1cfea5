"""Every implementation of an interface, for one and the same tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.images.store import FileImageStore, ImageStore, RedisImageStore, open_image_store
from contract.ledger.ledger import Ledger
from tests.support.ledger import patient
from tests.support.twin.ledger_memory import MemoryLedger
from tests.support.twin.stores import MemoryImageStore


@pytest.fixture(params=["memory", "redis"])
def ledger(request: Any) -> Iterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
        return
    client = patient(request.getfixturevalue("clean_redis"))
    yield Ledger(client)
    client.close()


@pytest.fixture(params=["memory", "files", "redis", "fsspec"])
def images(request: Any, tmp_path: Path) -> ImageStore:
    if request.param == "memory":
        return MemoryImageStore()
    if request.param == "files":
        return FileImageStore(tmp_path / "images")
    if request.param == "redis":
        return RedisImageStore(request.getfixturevalue("clean_redis"), ttl_s=60)
    return open_image_store(f"memory://{tmp_path.name}", ttl_s=60)
