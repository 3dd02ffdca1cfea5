"""The other stores: images, thumbnails and API keys."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from contract.access import KeyStore, Scope, make_key
from contract.errors import UnavailableError
from contract.images.store import FileImageStore, ImageStore, open_image_store
from contract.images.thumbnails import ThumbnailStore
from contract.ledger import keys
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from tests.support.images import stored_images
from tests.support.ledger import cat, claimed, submitted


@pytest.fixture(params=["files", "redis", "fsspec"])
def images(request: Any, tmp_path: Path) -> ImageStore:
    urls = {"files": str(tmp_path / "images"), "fsspec": f"memory://{tmp_path.name}"}
    url = urls.get(request.param) or request.getfixturevalue("clean_redis")
    return open_image_store(url, ttl_s=60)


def test_images_are_returned_in_the_requested_order(images: ImageStore) -> None:
    first, second = images.put(b"one"), images.put(b"two")
    assert images.get([second, first]) == [b"two", b"one"]


def test_put_many_stores_all_images(images: ImageStore) -> None:
    refs = images.put_many([b"one", b"two", b"one"])
    assert len(set(refs)) == 3
    assert images.get(refs) == [b"one", b"two", b"one"]
    assert images.put_many([]) == []


def test_equal_images_get_different_references(images: ImageStore) -> None:
    first, second = images.put(b"same"), images.put(b"same")
    images.delete([first])
    assert images.get([first, second]) == [None, b"same"]


def test_unknown_references_are_read_as_none_and_ignored_by_delete(images: ImageStore) -> None:
    unknown = "0" * 32
    images.delete([unknown])
    assert images.get([unknown]) == [None]


def test_empty_lists_are_accepted(images: ImageStore) -> None:
    images.delete([])
    assert images.get([]) == []


def test_any_bytes_are_returned_unchanged(images: ImageStore) -> None:
    data = bytes(range(256)) * 40
    assert images.get([images.put(data)]) == [data]


def test_an_unwritable_folder_makes_the_image_store_unavailable(tmp_path: Path) -> None:
    images = FileImageStore(tmp_path / "images")
    (tmp_path / "images").rmdir()
    (tmp_path / "images").write_bytes(b"a file where the folder was")
    with pytest.raises(UnavailableError, match="not writable"):
        images.put(b"image")
    with pytest.raises(UnavailableError, match="not writable"):
        images.delete(["0" * 32])


def test_a_full_disk_makes_the_image_store_unavailable_and_leaves_no_data(tmp_path: Path) -> None:
    # A limit on the file size makes writes fail as on a full disk.
    program = (
        "import resource, sys; from pathlib import Path; from contract.errors import UnavailableError\n"
        "from contract.images.store import FileImageStore\n"
        "images = FileImageStore(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: images.put(bytes(2000))\n"
        "except UnavailableError as error: print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "The image store is not writable (File too large). Try again later.\n"
    assert not stored_images(tmp_path)


def test_an_unreachable_redis_makes_the_image_store_unavailable() -> None:
    images = open_image_store("redis://127.0.0.1:1/0", ttl_s=60)
    for call in (lambda: images.put(b"x"), lambda: images.put_many([b"x"]), lambda: images.get(["x"])):
        with pytest.raises(UnavailableError, match="not responding"):
            call()


def test_thumbnails_are_read_by_job_id(redis_client: "redis.Redis", ledger: Ledger) -> None:
    thumbnails, claim = ThumbnailStore(redis_client, ttl_s=60), claimed(ledger, submitted(ledger))
    assert thumbnails.put(claim.job.id, b"\x00\xff image", claim.fence)
    assert thumbnails.get(["b", claim.job.id]) == [None, b"\x00\xff image"]
    assert thumbnails.get([]) == []


@pytest.mark.parametrize(("record_ttl_s", "max_s"), [(600, 60), (5, 5)])
def test_thumbnails_expire_no_later_than_their_jobs(
    redis_client: "redis.Redis", ledger: Ledger, record_ttl_s: int, max_s: int
) -> None:
    claim = claimed(ledger, submitted(ledger))
    ledger.commit([(claim, cat())], record_ttl_s)
    ThumbnailStore(redis_client, ttl_s=60).put(claim.job.id, b"image", claim.fence)
    assert 0 < int(redis_client.ttl(keys.thumbnail(claim.job.id))) <= max_s


def test_an_unreachable_redis_makes_thumbnails_unavailable() -> None:
    with pytest.raises(UnavailableError):
        ThumbnailStore(connect("redis://127.0.0.1:1/0"), ttl_s=60).get(["a"])


def test_an_api_key_is_read_back_unchanged(redis_client: "redis.Redis") -> None:
    store = KeyStore(redis_client)
    key, _ = make_key("Büro 3", (Scope.SUBMIT, Scope.READ), "5 per minute")
    store.put(key)
    assert store.get(key.id) == key
    assert store.get("unknown") is None


def test_storing_an_api_key_again_replaces_it(redis_client: "redis.Redis") -> None:
    store = KeyStore(redis_client)
    key, _ = make_key("a", (Scope.READ,))
    store.put(key)
    store.put(replace(key, revoked_ms=5))
    assert store.all() == [replace(key, revoked_ms=5)]


def test_api_keys_are_listed_oldest_first(redis_client: "redis.Redis") -> None:
    store = KeyStore(redis_client)
    for name, created_ms in (("a", 3), ("b", 1), ("c", 2)):
        store.put(replace(make_key(name, ())[0], created_ms=created_ms))
    assert [key.name for key in store.all()] == ["b", "c", "a"]
