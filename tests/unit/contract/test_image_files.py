"""The image store in a folder: segments, crashes, deleted images, and files of earlier versions."""

import os
import random
import shutil
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from contract.errors import UnavailableError
from contract.images.store import FileImageStore
from tests.support.images import stored_images
from tests.support.loop_disk import loop_disk
from tests.support.small_disk import small_disk

_KB = 1024


def images_of(seed: int, count: int = 12) -> list[bytes]:
    """Images of 1 byte to 40 kB."""
    source = random.Random(seed)
    return [source.randbytes(source.choice([1, 4095, 4096, 4097, source.randrange(1, 40 * _KB)])) for _ in range(count)]


def segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


def test_groups_of_a_minute_share_a_file(folder: Path) -> None:
    now_s = [time.time()]
    images = FileImageStore(folder, clock=lambda: now_s[0])
    refs = images.put_many(images_of(1)) + images.put_many(images_of(2))
    assert len(segments(folder)) == 1
    now_s[0] += 61
    refs += images.put_many(images_of(3))
    assert len(segments(folder)) == 2
    assert images.get(refs) == images_of(1) + images_of(2) + images_of(3)


def test_a_file_that_is_large_enough_is_followed_by_another_one(folder: Path) -> None:
    images, large = FileImageStore(folder), random.Random(1).randbytes(20_000_000)
    refs = [images.put_many([large, b"small"]) for _ in range(8)]
    assert len(segments(folder)) == 2
    assert all(images.get(group) == [large, b"small"] for group in refs)
    for group in refs:
        images.delete(group)
    assert not stored_images(folder)


def test_processes_never_share_a_file(folder: Path) -> None:
    first, second = FileImageStore(folder), FileImageStore(folder)
    refs = [first.put(b"first"), second.put(b"second")]
    assert len(segments(folder)) == 2
    assert first.get(refs) == [b"first", b"second"]


def test_a_deleted_folder_is_created_again(folder: Path) -> None:
    images = FileImageStore(folder)
    lost = images.put(b"lost")
    shutil.rmtree(folder)
    assert images.get([lost, images.put(b"new")]) == [None, b"new"]


def test_images_are_private_to_the_user_and_the_group(folder: Path) -> None:
    FileImageStore(folder).put(b"image")
    assert folder.stat().st_mode & 0o7777 == 0o750
    assert segments(folder)[0].stat().st_mode & 0o7777 == 0o640


@pytest.mark.parametrize("seed", range(20))
def test_what_a_crash_left_incomplete_is_missing_and_the_rest_is_unchanged(folder: Path, seed: int) -> None:
    images, source = FileImageStore(folder), random.Random(seed)
    written = images_of(seed)
    refs = images.put_many(written)
    (segment,) = segments(folder)
    cut = source.randrange(segment.stat().st_size)
    damage = source.choice(["ends", "is zero", "is older data"])
    with segment.open("r+b") as file:
        if damage == "ends":
            file.truncate(cut)
        else:
            file.seek(cut)
            size = segment.stat().st_size - cut
            file.write(bytes(size) if damage == "is zero" else source.randbytes(size))
    starts = [int(ref.split("-")[1], 16) for ref in refs]
    for start, data, read in zip(starts, written, images.get(refs), strict=True):
        assert read == data if start + len(data) <= cut else read in (None, data), damage
    later = images.put_many(images_of(seed + 100))
    assert images.get(later) == images_of(seed + 100)


@pytest.mark.parametrize("sync", [True, False])
def test_synced_images_survive_a_power_failure(tmp_path: Path, sync: bool) -> None:
    with loop_disk(tmp_path / "disk") as disk:
        images = FileImageStore(disk.path / "images", sync=sync)
        if not sync:
            os.sync()  # the folder exists
        written = [data for group in range(20) for data in images_of(group, 5)]
        refs = [ref for group in range(20) for ref in images.put_many(images_of(group, 5))]
        images.delete(refs[::3])
        with disk.after_power_failure(tmp_path / "after") as after:
            found = FileImageStore(after / "images").get(refs)
    kept = [(data, read) for n, (data, read) in enumerate(zip(written, found, strict=True)) if n % 3]
    # Without a sync they are lost, so the disk of this test does lose what was not synced.
    assert all(read == (data if sync else None) for data, read in kept)


def test_a_deleted_image_leaves_no_bytes_and_no_blocks(folder: Path) -> None:
    images = FileImageStore(folder)
    refs = images.put_many(images_of(1))
    (segment,) = segments(folder)
    kept = refs.pop(5)
    images.delete(refs)
    assert images.get([*refs, kept]) == [*[None] * len(refs), images_of(1)[5]]
    assert b"".join(stored_images(folder)) == images_of(1)[5].rstrip(b"\0")
    images.delete([kept])
    assert not stored_images(folder)
    assert segment.stat().st_blocks == 0


def test_images_are_overwritten_where_blocks_cannot_be_freed(tmp_path: Path) -> None:
    folder = tmp_path / "ramfs"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "ramfs", "ramfs", folder], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a ramfs")
    try:
        now_s = [time.time()]
        images = FileImageStore(folder, clock=lambda: now_s[0])
        kept, *refs = images.put_many(images_of(1))
        images.delete(refs)
        assert images.get([kept, *refs]) == [images_of(1)[0], *[None] * len(refs)]
        now_s[0] += 700
        assert (images.sweep(3600), len(segments(folder))) == (0, 1)
        images.delete([kept])
        assert not segments(folder)[0].read_bytes().strip(b"\0")
        assert (images.sweep(3600), segments(folder)) == (0, [])
    finally:
        subprocess.run(["umount", folder], check=True)


def test_an_empty_segment_is_deleted_once_nobody_appends_to_it(folder: Path) -> None:
    now_s = [time.time()]
    images = FileImageStore(folder, clock=lambda: now_s[0])
    images.delete(images.put_many(images_of(1)))
    now_s[0] += 100
    kept = images.put_many(images_of(2))
    assert (images.sweep(3600), len(segments(folder))) == (0, 2)
    now_s[0] += 600
    assert (images.sweep(3600), len(segments(folder))) == (0, 1)
    now_s[0] += 200
    assert (images.sweep(3600), len(segments(folder))) == (0, 1)
    assert images.get(kept) == images_of(2)


def test_expired_images_cannot_be_read_even_by_a_process_that_has_the_file_open(folder: Path) -> None:
    now_s = [time.time()]
    images = FileImageStore(folder, clock=lambda: now_s[0])
    refs = images.put_many(images_of(1))
    now_s[0] += 3600
    assert images.sweep(3600) == 0
    with segments(folder)[0].open("rb") as file:
        now_s[0] += 61
        assert images.sweep(3600) == 1
        assert file.read() == b""
    assert (images.get(refs), segments(folder)) == ([None] * len(refs), [])
    images.delete(refs)


def test_images_of_an_earlier_version_are_read_deleted_and_swept(folder: Path) -> None:
    images = FileImageStore(folder)
    refs = [f"{number:032x}" for number in range(3)]
    (folder / "00").mkdir()
    for ref in refs:
        (folder / "00" / ref).write_bytes(ref.encode())
    new = images.put(b"new")
    assert images.get([refs[0], new, refs[1]]) == [refs[0].encode(), b"new", refs[1].encode()]
    images.delete([refs[0], new])
    assert images.get([refs[0], new, refs[1]]) == [None, None, refs[1].encode()]
    os.utime(folder / "00" / refs[1], (0, 0))
    assert images.sweep(60) == 1
    assert images.get(refs) == [None, None, refs[2].encode()]


def test_a_sweep_leaves_other_files_alone(folder: Path) -> None:
    images = FileImageStore(folder)
    for name in ("notes.txt", "ab", "0" * 23):
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (0, 0))
    assert (images.sweep(0.5), len(segments(folder))) == (0, 3)


def test_a_group_that_does_not_fit_leaves_no_data_and_the_next_one_is_stored(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 400) as disk:
        images = FileImageStore(disk.path / "images", sync=True)
        before = images.put_many([b"1" * 100, b"2" * 5000])
        disk.fill(free_bytes=16 * _KB)
        for _ in range(3):
            with pytest.raises(UnavailableError, match="No space left"):
                images.put_many([b"3" * 6000, b"4" * 6000, b"5" * 6000])
            assert len(stored_images(disk.path / "images")) == 3
        fits = images.put_many([b"6" * 6000])
        disk.make_room()
        after = images.put_many([b"7" * 6000, b"8" * 6000])
        assert images.get(before + fits + after) == [
            *(b"1" * 100, b"2" * 5000),
            *(number * 6000 for number in (b"6", b"7", b"8")),
        ]


def test_processes_write_read_and_delete_at_the_same_time(folder: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        kept = dict(pair for part in pool.map(_write_and_delete, [folder] * 3, range(3)) for pair in part)
    images = FileImageStore(folder)
    assert images.get(list(kept)) == list(kept.values())
    found = b"".join(stored_images(folder))
    assert len(found) == sum(len(data.rstrip(b"\0")) for data in kept.values()), "only the kept images are left"


def _write_and_delete(folder: Path, number: int) -> list[tuple[str, bytes]]:
    images, source = FileImageStore(folder), random.Random(number)
    kept: dict[str, bytes] = {}
    for _ in range(60):
        written = [source.randbytes(source.randrange(1, 9000)) for _ in range(source.randrange(1, 9))]
        kept |= dict(zip(images.put_many(written), written, strict=True))
        assert images.get(list(kept)) == list(kept.values())
        gone = source.sample(sorted(kept), len(kept) // 2)
        images.delete(gone)
        assert images.get(gone) == [None] * len(gone)
        for ref in gone:
            del kept[ref]
    return list(kept.items())
