"""Forms and archives, hostile ones too: valid images are accepted, others rejected, and memory stays flat."""

import io
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from contract.errors import PawqueueError
from gateway.accept.archives import UnpackBudget, leads_out, read_tar, read_zip
from gateway.accept.forms import read_form
from gateway.accept.received import Read, ReceivedImage, label_of
from tests.support.archives import Member, add, encrypted, special, tar_of, zip_of
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, refused
from tests.unit.gateway.test_submissions import TAR, ZIP, counts, opened

RED = draw(color=(200, 0, 0))
MAX_BYTES = 100_000


def reader(data: bytes) -> Read:
    return io.BytesIO(data).read


def unpack(kind: str, data: bytes, max_members: int = 1000) -> list[ReceivedImage]:
    budget = UnpackBudget(10**9, max_members)
    return list((read_tar if kind == TAR else read_zip)(reader(data), MAX_BYTES, budget))


def until_error(images: Iterator[ReceivedImage]) -> tuple[list[ReceivedImage], str]:
    """The images before an error, and the error."""
    found: list[ReceivedImage] = []
    try:
        for image in images:
            found.append(image)  # noqa: PERF402 - the images before the error are wanted too
    except PawqueueError as error:
        return found, error.detail
    return found, ""


def outcomes(images: list[ReceivedImage]) -> dict[str, str]:
    return {image.custom_id: image.error.code if image.error else "accepted" for image in images}


def test_members_of_a_tar_that_are_not_files_are_rejected_individually() -> None:
    members: dict[str, Member] = {
        "folder": special("folder", tarfile.DIRTYPE),
        "link": special("link", tarfile.SYMTYPE, "/etc/passwd"),
        "hard": special("hard", tarfile.LNKTYPE, "red.png"),
        "device": special("device", tarfile.CHRTYPE),
        "pipe": special("pipe", tarfile.FIFOTYPE),
        "../out.png": RED,
        "/abs.png": RED,
        "a/../../b.png": RED,
        "C:\\x.png": RED,
        "red.png": RED,
    }
    found = outcomes(unpack(TAR, tar_of(members)))
    assert found.pop("red.png") == "accepted"
    assert "folder" not in found
    assert len(found) == 8
    assert set(found.values()) == {"bad_request"}


def test_members_of_a_zip_that_are_not_files_are_rejected_individually() -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0xA1FF << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("../out.png", RED)
        archive.writestr("folder/", b"")
        archive.writestr("bz.png", RED, zipfile.ZIP_BZIP2)
        archive.writestr("lzma.png", RED, zipfile.ZIP_LZMA)
        archive.writestr("deflated.png", RED, zipfile.ZIP_DEFLATED)
        archive.writestr("red.png", RED)
    found = outcomes(unpack(ZIP, buffer.getvalue()))
    assert (found.pop("red.png"), found.pop("deflated.png")) == ("accepted", "accepted")
    assert found == dict.fromkeys(("link", "../out.png", "bz.png", "lzma.png"), "bad_request")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_truncated_tar_yields_the_complete_images_before_the_end(mode: str) -> None:
    whole = tar_of({f"{n}.png": RED for n in range(5)}, mode)
    end = 5 * 2 * tarfile.BLOCKSIZE if mode == "w" else len(whole)
    for length in range(0, end, 97):
        taken, error = until_error(read_tar(reader(whole[:length]), MAX_BYTES, UnpackBudget(10**9, 1000)))
        assert all(image.data == RED for image in taken)
        assert "truncated" in error


def test_a_truncated_zip_yields_nothing() -> None:
    whole = zip_of({f"{n}.png": RED for n in range(5)})
    for length in range(0, len(whole) - 1, 53):
        with pytest.raises(PawqueueError, match=r"not a zip"):
            unpack(ZIP, whole[:length])


@pytest.mark.parametrize(("kind", "data"), [(TAR, tar_of({})), (ZIP, zip_of({})), (TAR, b""), (ZIP, b"")])
def test_an_archive_without_members_is_rejected(kind: str, data: bytes) -> None:
    with pytest.raises(PawqueueError):
        unpack(kind, data)


def test_encrypted_members_are_rejected() -> None:
    assert outcomes(unpack(ZIP, encrypted(zip_of({"a.png": RED, "b.png": RED})))) == {
        "a.png": "bad_request",
        "b.png": "bad_request",
    }


def test_a_corrupt_member_is_rejected_and_others_are_accepted() -> None:
    data = bytearray(zip_of({"a.png": RED, "b.png": RED}))
    data[data.index(RED) + 30] ^= 0xFF
    assert outcomes(unpack(ZIP, bytes(data))) == {"a.png": "bad_request", "b.png": "accepted"}


def test_a_member_is_not_read_beyond_its_declared_size() -> None:
    data = bytearray(zip_of({"a.png": bytes(5_000_000)}, zipfile.ZIP_DEFLATED))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = struct.pack("<I", 100)
    (image,) = unpack(ZIP, bytes(data))
    assert image.error


def bomb_tar(scale: int = 1) -> bytes:
    """A gzip of a tar with one member of 13 MB of zeros, or of `scale` times as many."""
    info = tarfile.TarInfo("zeros.png")
    info.size = 13_000_000 * scale
    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(info.tobuf())]
    parts += [packer.compress(bytes(1_000_000)) for _ in range(13 * scale)]
    return b"".join([*parts, packer.flush()])


def long_header_tar() -> bytes:
    """A tar whose extended header says that it is 2 GB long."""
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 2_000_000_000
    return info.tobuf() + bytes(3_000_000)


def nested_header_tar() -> bytes:
    """A tar of extended headers before extended headers, without end."""
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 512
    return (info.tobuf() + b"12 path=aaa\n".ljust(512, b"\0")) * 3000


def full_directory_zip() -> bytes:
    """A zip with nothing but a list of 200,000 members."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<HHH", 1, 0, 0) + bytes(12) + b"a"
    directory = entry * 200_000
    return directory + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, len(directory), 0, 0)


def deep_zip(scale: int = 1) -> bytes:
    """Members that are each small enough, and together far more than went in: 14 MB, or `scale` times as much."""
    return zip_of({f"{n}.png": bytes(99_000) for n in range(140 * scale)}, zipfile.ZIP_DEFLATED)


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "gzip bomb": (TAR, bomb_tar, "unpacks to far more"),
    "long extended header": (TAR, long_header_tar, "truncated or not a tar"),
    "endless extended headers": (TAR, nested_header_tar, "truncated or not a tar"),
    "long list of members": (ZIP, full_directory_zip, "too many members"),
    "zip bomb": (ZIP, deep_zip, "unpacks to far more"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_rejected_before_they_cost_memory(name: str) -> None:
    kind, make, reason = BOMBS[name]
    data = make()
    # A tenth of the usual budget, so that a tenth of a bomb is enough.
    budget = UnpackBudget(10**9, 100_000, free_bytes=10_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(PawqueueError, match=reason):
            for _ in (read_tar if kind == TAR else read_zip)(reader(data), MAX_BYTES, budget):
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize("kind", [TAR, ZIP])
def test_the_number_of_members_is_limited(kind: str) -> None:
    members = {f"{n}.png": RED for n in range(11)}
    data = tar_of(members) if kind == TAR else zip_of(members)
    assert len(unpack(kind, data, max_members=11)) == 11
    with pytest.raises(PawqueueError, match="more than 10 members"):
        unpack(kind, data, max_members=10)


def test_memory_does_not_grow_with_the_number_of_members() -> None:
    """The members that the library keeps would take more than a megabyte."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for n in range(1_500):
            add(archive, f"{n}.png", b"x")
    data = buffer.getvalue()
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_tar(reader(data), MAX_BYTES, UnpackBudget(10**9, 100_000)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 1_500
    assert peak < 1_000_000


def test_an_archive_in_an_archive_is_rejected(gateway: Gateway) -> None:
    address = opened(gateway)
    inner = {"inner.tar": tar_of({"red.png": RED}), "inner.zip": zip_of({"red.png": RED}), "red.png": RED}
    for kind, data in ((TAR, tar_of(inner)), (ZIP, zip_of(inner))):
        taken = gateway.client.post(f"{address}/jobs", data=data, content_type=kind).get_json()
        assert [item["custom_id"] for item in taken["accepted"]] == ["red.png"]
        assert {item["code"] for item in taken["rejected"]} == {"not_an_image"}
    assert counts(gateway, address) == {"total": 3, "queued": 1, "rejected": 2}


@pytest.mark.parametrize("kind", [TAR, ZIP])
def test_names_become_custom_ids(gateway: Gateway, kind: str) -> None:
    names = ["Ünïcode 猫.png", "new\nline.png", "esc\x1b[31m.png", "a" * 1025, "x" * 1024, "nbsp\u202f.png"]
    data = (tar_of if kind == TAR else zip_of)(dict.fromkeys(names, RED))  # type: ignore[operator]
    taken = gateway.client.post(f"{opened(gateway)}/jobs", data=data, content_type=kind).get_json()
    expected = ["Ünïcode 猫.png", "new\\x0aline.png", "esc\\x1b[31m.png", "x" * 1024, "nbsp\u202f.png"]
    assert [item["custom_id"] for item in taken["accepted"]] == expected
    assert [item["code"] for item in taken["rejected"]] == ["bad_request"]


def test_names_that_are_not_unicode_stay_distinct() -> None:
    data = tar_of({f"caf{chr(0xDC00 + byte)}.png": RED for byte in (0xE9, 0xE8)})
    assert list(outcomes(unpack(TAR, data))) == ["caf\\xe9.png", "caf\\xe8.png"]


@given(st.text(st.characters()))
def test_any_name_becomes_a_printable_custom_id(name: str) -> None:
    label = label_of(name)
    label.encode()
    assert not any(ord(character) < 32 for character in label)
    assert label_of(label) == label


def test_names_that_lead_out_of_the_archive_are_recognized() -> None:
    for name in ("..", "../a", "a/..", "/a", "\\a", "a\\..\\b", "C:/a", "c:"):
        assert leads_out(name), name
    for name in ("a", "a/b", "..a", "a..", "a/...", ".hidden", "./a"):
        assert not leads_out(name), name


@pytest.mark.parametrize("kind", [TAR, ZIP])
@settings(max_examples=75, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_raises_only_expected_errors(kind: str, data: st.DataObject) -> None:
    members = {"a.png": RED, "b/" + "long" * 60 + ".png": RED, "c.png": b""}
    whole = bytearray(tar_of(members) if kind == TAR else zip_of(members, zipfile.ZIP_DEFLATED))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    budget = UnpackBudget(10**9, 1000)
    taken, _ = until_error((read_tar if kind == TAR else read_zip)(reader(bytes(whole)), MAX_BYTES, budget))
    for image in taken:
        image.custom_id.encode()


BOUNDARY = "edge"


def form(*parts: bytes, end: bytes = b"--edge--\r\n") -> bytes:
    return b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts) + end


def part(head: bytes, data: bytes = RED) -> bytes:
    return b"Content-Disposition: form-data; " + head + b"\r\n\r\n" + data


def test_parts_of_a_form_are_accepted_or_rejected_individually() -> None:
    body = form(
        part(b'name="file"; filename="red.png"'),
        part(b'name="other"; filename="other.png"'),
        part(b'name="file"; filename="large.png"', bytes(MAX_BYTES + 1)),
        part(b'name="file"; filename="../up.png"'),
    )
    found = [
        (one.custom_id, one.error.code if one.error else "") for one in read_form(reader(body), BOUNDARY, MAX_BYTES)
    ]
    assert found == [
        ("red.png", ""),
        ("large.png", "upload_too_large"),
        ("../up.png", ""),  # only in archives are such names rejected
    ]


def test_a_form_holds_at_most_100_images() -> None:
    parts = [part(b'name="file"; filename="%d.png"' % n, b"x") for n in range(101)]
    assert len(list(read_form(reader(form(*parts[:100])), BOUNDARY, MAX_BYTES))) == 100
    taken, error = until_error(read_form(reader(form(*parts)), BOUNDARY, MAX_BYTES))
    assert (len(taken), "100 images" in error) == (100, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing",
        form(),
        form(part(b'name="file"; filename="a.png"'), end=b""),
        form(part(b'name="file"; filename="a.png"'))[:-30],
        form(b"No-Disposition: x\r\n\r\nx"),
        form(b"X: " + b"a" * 500_000),
        form(*[part(b'name="x"', b"")] * 300),
        form(part(b'name="other"')),
        form(part(b'name="file"')),
        form(part(b'name="file"; filename=""')),
        b"--edge\r\n" + b"\xff\xfe: \xff\r\n\r\n",
    ],
)
def test_a_malformed_form_is_rejected(body: bytes) -> None:
    with pytest.raises(PawqueueError):
        list(read_form(reader(body), BOUNDARY, MAX_BYTES))


@settings(max_examples=75, deadline=None)
@given(data=st.data())
def test_a_damaged_form_raises_only_expected_errors(data: st.DataObject) -> None:
    body = bytearray(form(part(b'name="file"; filename="a.png"'), part(b'name="file"; filename="b.png"')))
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    until_error(read_form(reader(bytes(body)), BOUNDARY, MAX_BYTES))


def test_a_truncated_archive_is_rejected_with_what_was_accepted(gateway: Gateway) -> None:
    address = opened(gateway)
    data = tar_of({f"{n}.png": RED for n in range(40)})
    response = gateway.client.post(f"{address}/jobs", data=data[: len(data) * 3 // 4], content_type=TAR)
    refused(response, 400, "bad_request")
    taken = len(response.get_json()["accepted"])
    assert 20 < taken < 40
    assert counts(gateway, address) == {"total": taken, "queued": taken}


def test_bodies_of_other_types_are_rejected(gateway: Gateway) -> None:
    address = opened(gateway)
    refused(gateway.client.post(f"{address}/jobs", data=RED, content_type="image/png"), 415, "unsupported_format")
    refused(gateway.client.post(f"{address}/jobs"), 415, "unsupported_format")
    refused(gateway.client.post(f"{address}/jobs", data=b"x", content_type="multipart/form-data"), 400, "bad_request")
    for kind in (TAR, ZIP):
        refused(gateway.client.post(f"{address}/jobs", data=b"", content_type=kind), 400, "bad_request")
        refused(gateway.client.post(f"{address}/jobs", data=RED, content_type=kind), 400, "bad_request")
