"""Archives, including hostile ones: valid images are accepted, others rejected, and memory is bounded."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import tempfile
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from contract.errors import PawqueueError
from gateway.accept.archives import UnpackBudget, points_outside, read_tar, read_zip
from gateway.accept.received import Read, ReceivedImage, to_custom_id
from gateway.accept.spool import Spool
from tests.support.archives import Member, add, encrypted, special, tar_of, zip_named, zip_of
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, assert_problem
from tests.unit.gateway.test_submissions import TAR, ZIP, counts, open_submission, send

RED = draw(color=(200, 0, 0))
MAX_BYTES = 100_000


def reader(data: bytes) -> Read:
    return io.BytesIO(data).read


def read_archive(kind: str, data: bytes, budget: UnpackBudget) -> Iterator[ReceivedImage]:
    if kind == TAR:
        return read_tar(reader(data), MAX_BYTES, budget)
    return read_zip(reader(data), MAX_BYTES, budget, Spool(Path(tempfile.gettempdir()), 10**9).file(""))


def unpack(kind: str, data: bytes, max_members: int = 1000) -> list[ReceivedImage]:
    budget = UnpackBudget(10**9, max_members)
    return list(read_archive(kind, data, budget))


def until_error(images: Iterator[ReceivedImage]) -> tuple[list[ReceivedImage], str]:
    """The images before an error, and the detail of the error."""
    complete: list[ReceivedImage] = []
    try:
        for image in images:
            complete.append(image)  # noqa: PERF402 - keeps the images before the error
    except PawqueueError as error:
        return complete, error.detail
    return complete, ""


def codes(images: list[ReceivedImage]) -> dict[str, str]:
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
    by_name = codes(unpack(TAR, tar_of(members)))
    assert by_name.pop("red.png") == "accepted"
    assert "folder" not in by_name
    assert len(by_name) == 8
    assert set(by_name.values()) == {"bad_request"}


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
    by_name = codes(unpack(ZIP, buffer.getvalue()))
    assert (by_name.pop("red.png"), by_name.pop("deflated.png")) == ("accepted", "accepted")
    assert by_name == dict.fromkeys(("link", "../out.png", "bz.png", "lzma.png"), "bad_request")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_truncated_tar_yields_its_complete_images(mode: str) -> None:
    whole = tar_of({f"{n}.png": RED for n in range(5)}, mode)
    end = 5 * 2 * tarfile.BLOCKSIZE if mode == "w" else len(whole)
    for length in range(0, end, 97):
        images, error = until_error(read_tar(reader(whole[:length]), MAX_BYTES, UnpackBudget(10**9, 1000)))
        assert all(image.data == RED for image in images)
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
    assert codes(unpack(ZIP, encrypted(zip_of({"a.png": RED, "b.png": RED})))) == {
        "a.png": "bad_request",
        "b.png": "bad_request",
    }


def test_a_corrupt_member_is_rejected_and_others_are_accepted() -> None:
    data = bytearray(zip_of({"a.png": RED, "b.png": RED}))
    data[data.index(RED) + 30] ^= 0xFF
    assert codes(unpack(ZIP, bytes(data))) == {"a.png": "bad_request", "b.png": "accepted"}


def test_a_member_is_not_read_beyond_its_declared_size() -> None:
    data = bytearray(zip_of({"a.png": bytes(5_000_000)}, zipfile.ZIP_DEFLATED))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = struct.pack("<I", 100)
    (image,) = unpack(ZIP, bytes(data))
    assert image.error


def bomb_tar(scale: int = 1) -> bytes:
    """A gzipped tar with one member: 13 MB of zeros, or `scale` times as many."""
    info = tarfile.TarInfo("zeros.png")
    info.size = 13_000_000 * scale
    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(info.tobuf())]
    parts += [packer.compress(bytes(1_000_000)) for _ in range(13 * scale)]
    return b"".join([*parts, packer.flush()])


def long_header_tar() -> bytes:
    """A tar whose extended header has a declared size of 2 GB."""
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 2_000_000_000
    return info.tobuf() + bytes(3_000_000)


def nested_header_tar() -> bytes:
    """A tar of thousands of extended headers, each of which describes the next."""
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 512
    return (info.tobuf() + b"12 path=aaa\n".ljust(512, b"\0")) * 3000


def full_directory_zip() -> bytes:
    """A zip that contains only a directory, which lists 200,000 members."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<HHH", 1, 0, 0) + bytes(12) + b"a"
    directory = entry * 200_000
    return directory + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, len(directory), 0, 0)


def deep_zip(scale: int = 1) -> bytes:
    """A small zip with many members, each under the limit: 14 MB unpacked, or `scale` times as much."""
    return zip_of({f"{n}.png": bytes(99_000) for n in range(140 * scale)}, zipfile.ZIP_DEFLATED)


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "gzip bomb": (TAR, bomb_tar, "expands to far more"),
    "long extended header": (TAR, long_header_tar, "truncated or not a tar"),
    "endless extended headers": (TAR, nested_header_tar, "truncated or not a tar"),
    "long list of members": (ZIP, full_directory_zip, "too many members"),
    "zip bomb": (ZIP, deep_zip, "expands to far more"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_rejected_before_they_use_much_memory(name: str) -> None:
    kind, make, reason = BOMBS[name]
    data = make()
    # A tenth of the usual budget, to keep the bombs small.
    budget = UnpackBudget(10**9, 100_000, free_bytes=10_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(PawqueueError, match=reason):
            for _ in read_archive(kind, data, budget):
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
    """`tarfile` normally keeps all members, which would take more than a megabyte here."""
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


def extended_tar(records: bytes) -> bytes:
    """A tar with a member that an extended header describes."""
    extended = tarfile.TarInfo("extended")
    extended.type, extended.size = tarfile.XHDTYPE, len(records)
    header = extended.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % tarfile.BLOCKSIZE)
    return header + tar_of({"a.png": RED})


@pytest.mark.parametrize(
    "records",
    [
        b"120000 comment=" + b"1" * 119_984 + b"\n",
        b"120000 comment=" + b"1" * 500 + (b"a" + b"1" * 2000) * 59 + b"b" * 1424 + b"\n",
        b"5 aa\n" * 20_000 + b"9 b=cccc\n",
        b"6 a=b\n" * 20_000,
    ],
    ids=["one number", "many numbers", "no equals signs", "many records"],
)
def test_headers_that_take_tarfile_long_are_rejected(records: bytes) -> None:
    start_s, (_, peak) = time.process_time(), (0, 0)
    tracemalloc.start()
    try:
        images, problem = until_error(read_archive(TAR, extended_tar(records), UnpackBudget(10**9, 1000)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (images, "truncated or not a tar" in problem) == ([], True)
    assert time.process_time() - start_s < 1
    assert peak < 10_000_000


def test_ordinary_extended_headers_are_read() -> None:
    name = b"1" * 200 + b".png"
    texts = b"path=" + name, b"SCHILY.xattr.a=" + bytes(range(256)), b"comment=" + b"x" * 900
    records = b"".join(b"%d %s\n" % (len(text) + 5, text) for text in texts)
    assert codes(unpack(TAR, extended_tar(records))) == {name.decode(): "accepted"}


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (dict.fromkeys(range(60), b"\x99\x99\0\0" * 16_000), "extra data"),
        (dict.fromkeys(range(20_001), b""), "too many members"),
    ],
    ids=["extra data", "many members"],
)
def test_a_zip_whose_directory_takes_zipfile_long_is_rejected(entries: dict[int, bytes], reason: str) -> None:
    members = b"".join(
        struct.pack("<4s24xHHH12x", b"PK\1\2", len(b"%d" % n), len(extra), 0) + b"%d" % n + extra
        for n, extra in entries.items()
    )
    end = struct.pack("<4s4xHHII2x", b"PK\5\6", len(entries), len(entries), len(members), 30)
    start_s = time.process_time()
    images, problem = until_error(
        read_archive(ZIP, b"PK\3\4".ljust(30, b"\0") + members + end, UnpackBudget(10**9, 20_000))
    )
    assert (images, reason in problem) == ([], True), problem
    assert time.process_time() - start_s < 1


def test_an_archive_inside_an_archive_is_rejected(gateway: Gateway) -> None:
    url = open_submission(gateway)
    inner = {"inner.tar": tar_of({"red.png": RED}), "inner.zip": zip_of({"red.png": RED}), "red.png": RED}
    for kind, data in ((TAR, tar_of(inner)), (ZIP, zip_of(inner))):
        added = gateway.client.post(f"{url}/jobs", data=data, content_type=kind).get_json()
        assert [item["custom_id"] for item in added["accepted"]] == ["red.png"]
        assert {item["code"] for item in added["rejected"]} == {"not_an_image"}
    assert counts(gateway, url) == {"total": 3, "queued": 1, "rejected": 2}


@pytest.mark.parametrize("kind", [TAR, ZIP])
def test_member_names_become_custom_ids(gateway: Gateway, kind: str) -> None:
    names = ["Ünïcode 猫.png", "new\nline.png", "esc\x1b[31m.png", "a" * 1025, "x" * 1024, "nbsp\u202f.png"]
    data = (tar_of if kind == TAR else zip_of)(dict.fromkeys(names, RED))  # type: ignore[operator]
    added = gateway.client.post(f"{open_submission(gateway)}/jobs", data=data, content_type=kind).get_json()
    expected = ["Ünïcode 猫.png", "new\\x0aline.png", "esc\\x1b[31m.png", "x" * 1024, "nbsp\u202f.png"]
    assert [item["custom_id"] for item in added["accepted"]] == expected
    assert [item["code"] for item in added["rejected"]] == ["bad_request"]


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [
        ("Kätzchen.png".encode(), 0x800, "Kätzchen.png"),
        ("Kätzchen.png".encode(), 0, "Kätzchen.png"),  # macOS
        ("Kätzchen.png".encode("cp437"), 0, "Kätzchen.png"),
        ("Kätzchen.png".encode("latin-1"), 0, "KΣtzchen.png"),  # without the flag it is CP437, in which this is valid
        ("Kätzchen.png".encode("latin-1"), 0x800, "KΣtzchen.png"),
        ("猫.png".encode("shift-jis"), 0, "öL.png"),
        (b"", 0, "unnamed-"),
    ],
)
@pytest.mark.parametrize("before", [b"", b"data in front of the zip"])
def test_a_zip_with_names_in_any_encoding_is_read(name: bytes, flags: int, expected: str, before: bytes) -> None:
    data = before + zip_named({name: RED, "größe.png".encode(): RED}, flags)
    images = unpack(ZIP, data)
    assert images[0].custom_id.startswith(expected)
    assert images[1].custom_id == "größe.png"
    assert [image.data for image in images] == [RED, RED]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_with_names_that_are_not_utf_8_is_read(form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding="latin-1") as archive:
        add(archive, "Kätzchen.png", RED)
        add(archive, "b.png", RED)
    names = list(codes(unpack(TAR, buffer.getvalue())))
    assert names == ["Kätzchen.png" if form == tarfile.PAX_FORMAT else "K\\xe4tzchen.png", "b.png"]


def test_long_names_of_links_neither_stay_in_memory_nor_fill_the_response(gateway: Gateway) -> None:
    links = {str(n): special(chr(ord("a") + n % 26) * 90_000 + str(n), tarfile.SYMTYPE) for n in range(60)}
    data = tar_of(links, "w:gz")
    assert len(data) < 100_000
    url = open_submission(gateway)
    tracemalloc.start()
    try:
        response = gateway.client.post(f"{url}/jobs", data=data, content_type=TAR)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000
    assert len(response.data) < 40_000
    assert len(response.get_json()["rejected"]) == 60
    assert counts(gateway, url) == {"total": 26, "rejected": 26}  # the others have the same shortened name


@pytest.mark.parametrize("kind", [TAR, ZIP])
def test_a_response_lists_at_most_100_rejected_and_skipped_members(gateway: Gateway, kind: str) -> None:
    url = open_submission(gateway)
    members = {f"{n}.txt": b"text" for n in range(150)} | {f"{n}/.DS_Store": b"junk" for n in range(130)}
    added = send(gateway, url, members | {"a.png": RED}, kind).get_json()
    assert [len(added[name]) for name in ("accepted", "rejected", "skipped")] == [1, 100, 100]
    assert (added["more_rejected"], added["more_skipped"]) == (50, 30)
    assert counts(gateway, url) == {"total": 151, "queued": 1, "rejected": 150}
    assert 'pawqueue_refused_total{reason="not_an_image"} 150.0' in gateway.metrics()


@pytest.mark.parametrize("kind", [TAR, ZIP])
def test_the_total_size_of_names_is_limited(kind: str) -> None:
    members = {f"{n:05}{'x' * 60_000}.png": b"x" for n in range(60)}
    data = tar_of(members) if kind == TAR else zip_of(members)  # type: ignore[arg-type]
    assert len(unpack(kind, data)) == 60
    budget = UnpackBudget(10**9, 1000, max_name_bytes=50_000)
    with pytest.raises(PawqueueError, match="names in the archive"):
        list(read_archive(kind, data, budget))


JUNK = [
    "__MACOSX/._a.png",
    "._a.png",
    "b/._c.png",
    ".DS_Store",
    "b/.DS_Store",
    "Thumbs.db",
    "b/thumbs.db",
    "desktop.ini",
]


@pytest.mark.parametrize("kind", [TAR, ZIP])
def test_system_files_are_skipped_and_not_counted(gateway: Gateway, kind: str) -> None:
    url = open_submission(gateway)
    members = dict.fromkeys(JUNK, b"junk") | {"a.png": RED}
    added = send(gateway, url, members, kind).get_json()
    assert [item["custom_id"] for item in added["accepted"]] == ["a.png"]
    assert (added["rejected"], added["left"], added["skipped"]) == ([], [], JUNK)
    assert counts(gateway, url) == {"total": 1, "queued": 1}
    assert 'code="not_an_image"' not in gateway.metrics()


@pytest.mark.parametrize("kind", [TAR, ZIP])
def test_an_archive_with_only_system_files_is_rejected(gateway: Gateway, kind: str) -> None:
    response = send(gateway, open_submission(gateway), dict.fromkeys(JUNK, b"junk"), kind)
    assert assert_problem(response, 400, "no_file")["skipped"] == JUNK


def test_system_files_that_the_client_sends_are_not_skipped(gateway: Gateway) -> None:
    """The client resends what the response does not name."""
    url = open_submission(gateway)
    headers = {"User-Agent": "pawqueue"}
    data = tar_of({"._a.png": RED, "Thumbs.db": b"junk"})
    added = gateway.client.post(f"{url}/jobs", data=data, content_type=TAR, headers=headers).get_json()
    assert [item["custom_id"] for item in added["accepted"]] == ["._a.png"]
    assert [item["custom_id"] for item in added["rejected"]] == ["Thumbs.db"]


WHOLE_TAR = tar_of({"red.png": RED})


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        (TAR, zip_of({"red.png": RED}), "is a zip. Send it with `Content-Type: application/zip`"),
        (ZIP, WHOLE_TAR, "is a tar. Send it with `Content-Type: application/x-tar`"),
        (ZIP, gzip.compress(WHOLE_TAR), "compressed with gzip"),
        (TAR, bz2.compress(WHOLE_TAR), "compressed with bzip2"),
        (TAR, lzma.compress(WHOLE_TAR), "compressed with xz"),
        (ZIP, b"Rar!\x1a\x07\x01\x00", "a RAR archive"),
        (TAR, RED, "not a tar"),
        (ZIP, RED, "not a zip"),
    ],
)
def test_the_error_for_an_archive_of_another_kind_names_it(kind: str, data: bytes, reason: str) -> None:
    with pytest.raises(PawqueueError, match=reason):
        unpack(kind, data)


def test_a_gzipped_tar_in_several_members_is_read() -> None:
    data = gzip.compress(WHOLE_TAR[:700]) + gzip.compress(WHOLE_TAR[700:]) + bytes(512)
    assert codes(unpack(TAR, data)) == {"red.png": "accepted"}


def test_names_that_are_not_unicode_stay_distinct() -> None:
    data = tar_of({f"caf{chr(0xDC00 + byte)}.png": RED for byte in (0xE9, 0xE8)})
    assert list(codes(unpack(TAR, data))) == ["caf\\xe9.png", "caf\\xe8.png"]


@given(st.text(st.characters()))
def test_any_name_becomes_a_printable_custom_id(name: str) -> None:
    custom_id = to_custom_id(name)
    custom_id.encode()
    assert not any(ord(character) < 32 for character in custom_id)
    assert to_custom_id(custom_id) == custom_id


def test_names_that_point_outside_the_archive_are_recognized() -> None:
    for name in ("..", "../a", "a/..", "/a", "\\a", "a\\..\\b", "C:/a", "c:"):
        assert points_outside(name), name
    for name in ("a", "a/b", "..a", "a..", "a/...", ".hidden", "./a"):
        assert not points_outside(name), name


@pytest.mark.parametrize("kind", [TAR, ZIP])
@settings(max_examples=75, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_raises_only_expected_errors(kind: str, data: st.DataObject) -> None:
    members = {"a.png": RED, "b/" + "long" * 60 + ".png": RED, "c.png": b""}
    whole = bytearray(tar_of(members) if kind == TAR else zip_of(members, zipfile.ZIP_DEFLATED))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    budget = UnpackBudget(10**9, 1000)
    images, _ = until_error(read_archive(kind, bytes(whole), budget))
    for image in images:
        image.custom_id.encode()


def test_the_error_for_a_truncated_archive_lists_the_accepted_images(gateway: Gateway) -> None:
    url = open_submission(gateway)
    data = tar_of({f"{n}.png": RED for n in range(40)})
    response = gateway.client.post(f"{url}/jobs", data=data[: len(data) * 3 // 4], content_type=TAR)
    assert_problem(response, 400, "bad_request")
    count = len(response.get_json()["accepted"])
    assert 20 < count < 40
    assert counts(gateway, url) == {"total": count, "queued": count}


def test_bodies_of_other_types_are_rejected(gateway: Gateway) -> None:
    url = open_submission(gateway)
    problem = gateway.client.post(f"{url}/jobs", data=RED, content_type="image/png")
    assert "Content-Type is image/png" in assert_problem(problem, 415, "unsupported_format")["detail"]
    problem = gateway.client.post(f"{url}/jobs")
    assert "no Content-Type" in assert_problem(problem, 415, "unsupported_format")["detail"]
    assert_problem(
        gateway.client.post(f"{url}/jobs", data=b"x", content_type="multipart/form-data"), 400, "bad_request"
    )
    for kind in (TAR, ZIP):
        assert_problem(gateway.client.post(f"{url}/jobs", data=b"", content_type=kind), 400, "bad_request")
        assert_problem(gateway.client.post(f"{url}/jobs", data=RED, content_type=kind), 400, "bad_request")
