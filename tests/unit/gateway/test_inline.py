"""Images in JSON bodies and binary tensors: they are decoded while they arrive."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import UploadError, UploadTooLargeError
from gateway.accept.inline import ImageBudget, read_json, read_tensor
from gateway.accept.received import Read


def reader(data: bytes, piece_bytes: int = 65_536) -> Read:
    """Read `data` in pieces of at most `piece_bytes`."""
    left = data

    def read(size: int) -> bytes:
        nonlocal left
        piece, left = left[: min(size, piece_bytes)], left[min(size, piece_bytes) :]
        return piece

    return read


def budget(image_max_bytes: int = 100_000, max_bytes: int = 1_000_000) -> ImageBudget:
    return ImageBudget(image_max_bytes, max_bytes)


def image_in(body: bytes, piece_bytes: int = 65_536) -> bytes:
    """The image in the body `{"a": "<base64>"}`."""
    found = read_json(reader(body, piece_bytes), budget())
    return found.take(found.value["a"])


def as_is(text: str) -> str:
    return json.dumps(text)


def escaped(text: str) -> str:
    """As PHP (`/`) and .NET (`+`) write it, with the line breaks of `base64.encodebytes`."""
    lines = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    return json.dumps(lines).replace("/", "\\/").replace("+", "\\u002B").replace("=", "\\u003d")


def url_safe(text: str) -> str:
    return json.dumps(text.replace("+", "-").replace("/", "_").rstrip("="))


@pytest.mark.parametrize("write", [as_is, escaped, url_safe])
@given(
    image=st.binary(min_size=1, max_size=3_000) | st.binary(min_size=4_000, max_size=4_100), piece=st.integers(1, 90)
)
def test_images_of_any_size_arrive_in_pieces_of_any_size(write: Callable[[str], str], image: bytes, piece: int) -> None:
    body = b'{"a": %b}' % write(base64.b64encode(image).decode()).encode()
    assert image_in(body, piece) == image_in(body) == image


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=40),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
        max_leaves=20,
    ),
    st.integers(1, 30),
)
def test_json_without_long_strings_keeps_its_value(value: Any, piece: int) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert read_json(reader(text.encode(), piece), budget()).value == value


def test_each_long_string_is_its_own_image() -> None:
    images = [bytes([number]) * 5_000 for number in range(3)]
    body = json.dumps({"images": [{"b64": base64.b64encode(image).decode()} for image in images]}).encode()
    found = read_json(reader(body, 1_000), budget())
    assert len(json.dumps(found.value)) < 200
    assert [found.take(item["b64"]) for item in reversed(found.value["images"])] == images[::-1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("!" * 2_000, "not the base64"),
        ("A" * 2_001, "not the base64"),
        ("AAA=" * 600, "not the base64"),
        (f"data:image/png;base64,{'AAAA' * 600}", "without a prefix"),
        ("not base64", "not the base64"),
    ],
)
def test_what_is_not_base64_is_rejected(text: str, problem: str) -> None:
    for piece in (7, 65_536):
        with pytest.raises(UploadError, match=problem):
            image_in(json.dumps({"a": text}).encode(), piece)


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": "b', b'{"a": "%b' % (b"A" * 3_000), b"\xff", b'{"a": "\\x"}'])
def test_a_body_that_is_not_json_is_rejected(body: bytes) -> None:
    with pytest.raises(UploadError, match="not valid JSON"):
        read_json(reader(body), budget())


def test_deep_nesting_is_rejected() -> None:
    with pytest.raises(UploadError, match="nested too deeply"):
        read_json(reader(b"[" * 60_000), budget())


def test_pixels_as_numbers_are_rejected_with_advice_before_the_body_is_complete() -> None:
    read = reader(json.dumps({"instances": [[[0.5] * 1_000] * 100]}).encode())
    with pytest.raises(UploadTooLargeError, match=r"takes no pixels\. Send the image file"):
        read_json(read, budget())
    assert read(1)


@pytest.mark.parametrize("count", [1, 4])
def test_images_over_the_limit_are_rejected_before_they_are_complete(count: int) -> None:
    image = base64.b64encode(bytes(400_000 // count)).decode()
    read = reader(json.dumps([image] * count * 2).encode())
    with pytest.raises(UploadTooLargeError):
        read_json(read, budget(image_max_bytes=110_000, max_bytes=300_000))
    assert read(1)


def tensor_of(*elements: bytes) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def test_the_elements_of_a_tensor_are_read_one_by_one() -> None:
    elements = [b"", b"a", bytes(70_000)]
    data = tensor_of(*elements)
    assert list(read_tensor(reader(data + b"more"), len(data), budget())) == elements


@pytest.mark.parametrize(
    ("data", "size", "problem"),
    [
        (tensor_of(b"abc"), 6, "do not have `binary_data_size`"),
        (tensor_of(b"abc"), 8, "do not have `binary_data_size`|ends before"),
        (tensor_of(b"abc")[:-1], 7, "ends before"),
        (b"\1\0", 2, "do not have `binary_data_size`"),
        (b"\xff\xff\xff\xff", 5_000_000_000, "larger than the limit"),
    ],
)
def test_a_tensor_whose_lengths_do_not_match_is_rejected(data: bytes, size: int, problem: str) -> None:
    with pytest.raises(UploadError, match=problem):
        list(read_tensor(reader(data), size, budget()))


def test_a_tensor_with_too_many_bytes_is_rejected() -> None:
    data = tensor_of(*[bytes(60_000)] * 3)
    with pytest.raises(UploadTooLargeError, match="together"):
        list(read_tensor(reader(data), len(data), budget(max_bytes=150_000)))
