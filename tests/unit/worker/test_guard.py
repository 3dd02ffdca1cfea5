"""The processes that decode costly images: what they may use, and what happens when they end."""

import contextlib
import lzma
import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.decode import UndecodableImageError, decode
from tests.support.images import draw, encode
from tests.support.services import wait_until
from tests.support.tiff import tiff
from worker.pipeline.guard import Guard, StoppedError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

IMAGE = draw((90, 70), form="TIFF")
SLOW = draw((7000, 7000), 0, mode="L")


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard(limit_s=60, max_pixels=50_000_000)
    yield guard
    guard.stop()


@pytest.fixture(scope="module")
def shared_guard() -> Iterator[Guard]:
    guard = Guard(limit_s=60, max_pixels=50_000_000)
    yield guard
    guard.stop()


def helpers() -> set[int]:
    """The ids of this process's helpers. One of them may be that of the shared guard."""
    lines = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError):  # the thread has ended
            lines.append(path.read_text())
    ids = {int(pid) for line in lines for pid in line.split()}
    return {pid for pid in ids if b"worker.pipeline.guard" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def helper_of(guard: Guard) -> int:
    """The id of the helper of a new guard."""
    before = helpers()
    guard.decode(IMAGE, 8, 8)
    (helper,) = helpers() - before
    return helper


def tiff_of_lzma(dictionary: int) -> bytes:
    """A small TIFF whose decoder needs a dictionary of 2 ** (12 + dictionary / 2) bytes."""
    packed = bytearray(lzma.compress(bytes(64 * 64), lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}]))
    at, size = 12, (packed[12] + 1) * 4
    packed[at + 4] = dictionary
    packed[at + size - 4 : at + size] = struct.pack("<I", zlib.crc32(packed[at : at + size - 4]))
    head, directory = b"II*\0" + struct.pack("<I", 8 + len(packed) + len(packed) % 2), b""
    tags = {256: 64, 257: 64, 258: 8, 259: 34925, 262: 1, 273: 8, 277: 1, 278: 64, 279: len(packed)}
    for tag, value in tags.items():
        directory += struct.pack("<HHII", tag, 4, 1, value)
    body = bytes(packed) + bytes(len(packed) % 2)
    return head + body + struct.pack("<H", len(tags)) + directory + bytes(4)


@pytest.mark.parametrize("form", ["TIFF", "HEIF", "AVIF", "JPEG", "PNG", "WEBP"])
def test_an_image_has_the_same_pixels_as_in_the_worker(shared_guard: Guard, form: str) -> None:
    data = draw((90, 70), form=form)
    found, expected = shared_guard.decode(data, 32, 24), decode(data, 32, 24)
    assert np.array_equal(found.pixels, expected.pixels)
    assert (found.width, found.height, found.warnings) == (expected.width, expected.height, expected.warnings)


def test_the_resize_rule_and_the_filter_reach_the_helper(shared_guard: Guard) -> None:
    data = encode(Image.effect_noise((90, 60), 80).convert("RGB"))
    for resize in ("squash", "crop", "pad"):
        for how in ("bilinear", "bicubic", "nearest", "area"):
            expected = decode(data, 32, 24, resize, how).pixels
            assert np.array_equal(shared_guard.decode(data, 32, 24, resize, how).pixels, expected)


def test_warnings_and_reasons_are_those_of_the_decoder(shared_guard: Guard) -> None:
    assert shared_guard.decode(tiff(np.full((8, 8), 4095, np.uint16)), 8, 8).warnings == ("sample_range_assumed",)
    with pytest.raises(UndecodableImageError, match="save it with PlanarConfiguration 1"):
        shared_guard.decode(tiff(np.zeros((8, 8, 3), np.uint16), 2, planar=True), 8, 8)


def test_a_large_image_is_decoded(shared_guard: Guard) -> None:
    assert shared_guard.decode(SLOW, 8, 8).width == 7000


def test_an_image_that_needs_too_much_memory_fails_and_the_next_one_succeeds(guard: Guard) -> None:
    assert guard.decode(tiff_of_lzma(dictionary=16), 8, 8).pixels.shape == (8, 8, 3)
    with pytest.raises(UndecodableImageError):
        guard.decode(tiff_of_lzma(dictionary=36), 8, 8)  # 1 GiB
    assert guard.decode(IMAGE, 8, 8).width == 90


def test_an_image_that_takes_too_long_fails() -> None:
    guard, before = Guard(limit_s=0.02, max_pixels=50_000_000), helpers()
    with pytest.raises(UndecodableImageError, match=r"longer than 0\.02 s"):
        guard.decode(SLOW, 8, 8)
    assert helpers() == before
    guard.stop()


def test_an_image_survives_the_end_of_a_used_helper(guard: Guard) -> None:
    helper = helper_of(guard)
    os.kill(helper, signal.SIGKILL)
    assert guard.decode(IMAGE, 8, 8).width == 90
    assert helper not in helpers()


def test_an_image_waits_while_no_helper_starts(
    guard: Guard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken, ThreadPoolExecutor(1) as pool:
        broken.setattr(sys, "executable", shutil.which("false"))
        decoding = pool.submit(guard.decode, IMAGE, 8, 8)
        wait_until(lambda: "did not start" in caplog.text, "a helper to fail", 30)
        broken.undo()
        assert decoding.result(timeout=60).width == 90


def test_helpers_are_reused(guard: Guard) -> None:
    guard.decode(IMAGE, 8, 8)
    before = helpers()
    with pytest.raises(UndecodableImageError):
        guard.decode(b"broken", 8, 8)
    guard.decode(IMAGE, 8, 8)
    assert helpers() == before


def test_a_helper_has_no_secrets_no_sockets_and_no_tensorflow(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAWQUEUE_REDIS_URL", "redis://:secret@host/0")
    helper = helper_of(guard)
    folder = Path(f"/proc/{helper}")
    assert b"secret" not in (folder / "environ").read_bytes()
    files = {int(link.name): os.readlink(link) for link in (folder / "fd").iterdir()}  # noqa: PTH115
    assert set(files) == {0, 1, 2, 3, 4}
    assert files[0].startswith("pipe:")
    assert files[1] == files[2] == "/dev/null"
    assert files[3].startswith("pipe:")
    assert files[4] == f"/proc/{helper}/statm"
    assert "tensorflow" not in (folder / "maps").read_text()
    assert (folder / "oom_score_adj").read_text().strip() == "1000"


def test_helpers_end_with_the_worker() -> None:
    program = (
        "import os, signal, pathlib; from worker.pipeline.guard import Guard; from tests.support.images import draw\n"
        "Guard(60, 1000).decode(draw(form='TIFF'), 8, 8)\n"
        "print(pathlib.Path('/proc/self/task', str(os.getpid()), 'children').read_text(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=100, check=False)
    (helper,) = map(int, done.stdout.split())
    wait_until(lambda: not Path(f"/proc/{helper}/cmdline").exists(), "the helper to end", 20)


def test_a_stopped_guard_decodes_nothing(guard: Guard) -> None:
    helper = helper_of(guard)
    guard.stop()
    assert helper not in helpers()
    with pytest.raises(StoppedError):
        guard.decode(IMAGE, 8, 8)
