"""What every image store does."""

from contract.images.store import ImageStore


def test_what_was_put_is_read_in_order(images: ImageStore) -> None:
    first, second = images.put(b"one"), images.put(b"two")
    assert images.get([second, first]) == [b"two", b"one"]


def test_many_are_put_at_once(images: ImageStore) -> None:
    refs = images.put_many([b"one", b"two", b"one"])
    assert len(set(refs)) == 3
    assert images.get(refs) == [b"one", b"two", b"one"]
    assert images.put_many([]) == []


def test_equal_images_have_references_of_their_own(images: ImageStore) -> None:
    first, second = images.put(b"same"), images.put(b"same")
    images.delete([first])
    assert images.get([first, second]) == [None, b"same"]


def test_unknown_references_are_none_and_deleting_them_does_nothing(images: ImageStore) -> None:
    unknown = "0" * 32
    images.delete([unknown])
    assert images.get([unknown]) == [None]


def test_nothing_asked_is_nothing_read(images: ImageStore) -> None:
    images.delete([])
    assert images.get([]) == []


def test_any_bytes_survive(images: ImageStore) -> None:
    data = bytes(range(256)) * 40
    assert images.get([images.put(data)]) == [data]
