"""What every store of thumbnails does, in memory and on Redis."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from contract.errors import UnavailableError
from contract.images.thumbnails import ThumbnailStore
from contract.ledger import keys
from contract.ledger.connection import connect
from tests.support.twin.stores import MemoryThumbnailStore


@pytest.fixture(params=["memory", "redis"])
def thumbnails(request: Any) -> Iterator[ThumbnailStore]:
    if request.param == "memory":
        yield MemoryThumbnailStore()
        return
    client = connect(request.getfixturevalue("clean_redis"))
    yield ThumbnailStore(client, ttl_s=60)
    client.close()


def test_what_was_put_is_read_and_the_rest_is_none(thumbnails: ThumbnailStore) -> None:
    thumbnails.put("a", b"\x00\xff image")

    assert thumbnails.get(["b", "a"]) == [None, b"\x00\xff image"]
    assert thumbnails.get([]) == []


def test_a_thumbnail_in_redis_has_a_time_to_live(clean_redis: str) -> None:
    client = connect(clean_redis)
    ThumbnailStore(client, ttl_s=60).put("a", b"image")

    assert 0 < int(client.ttl(keys.thumbnail("a"))) <= 60
    client.close()


def test_a_store_that_is_gone_says_so() -> None:
    client = redis.Redis(port=1, decode_responses=True)

    with pytest.raises(UnavailableError):
        ThumbnailStore(client, ttl_s=60).get(["a"])
