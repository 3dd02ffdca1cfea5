"""What every store of API keys does, in memory and on Redis."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from contract.access import KeyStore, Scope, make_key
from contract.ledger.connection import connect
from tests.support.twin.stores import MemoryKeyStore


@pytest.fixture(params=["memory", "redis"])
def store(request: Any) -> Iterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    client = connect(request.getfixturevalue("clean_redis"))
    yield KeyStore(client)
    client.close()


def test_a_key_is_read_as_it_was_written(store: KeyStore) -> None:
    key, _ = make_key("Büro 3", (Scope.SUBMIT, Scope.READ), "5 per minute")
    store.put(key)
    assert store.get(key.id) == key
    assert store.get("nobody") is None


def test_a_change_replaces_what_was_there(store: KeyStore) -> None:
    key, _ = make_key("a", (Scope.READ,))
    store.put(key)
    store.put(replace(key, revoked_ms=5))
    assert store.all() == [replace(key, revoked_ms=5)]


def test_all_are_listed_oldest_first(store: KeyStore) -> None:
    keys = [replace(make_key(name, ())[0], created_ms=time) for name, time in (("a", 3), ("b", 1), ("c", 2))]
    for key in keys:
        store.put(key)
    assert [key.name for key in store.all()] == ["b", "c", "a"]
