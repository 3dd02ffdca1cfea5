"""The files that are found in folders: their selection, names and order."""

import os
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from pawqueue.bulk.files import count_skipped, find_files, folder_name, read_file, skipped_text
from tests.unit.pawqueue.service import write_images


def names(*arguments: Path, every_file: bool = False) -> list[str]:
    return [file.name for file in find_files(arguments, every_file=every_file)]


def test_files_are_sorted_by_name(tmp_path: Path) -> None:
    write_images(tmp_path, "b/2.jpg", "b/10.jpg", "a.jpg", "c.jpg", "b/a/x.jpg")
    found = list(find_files([tmp_path]))
    assert [file.name for file in found] == ["a.jpg", "b/10.jpg", "b/2.jpg", "b/a/x.jpg", "c.jpg"]
    assert all((tmp_path / file.name) == file.path for file in found)


def test_images_are_selected_by_their_extension_ignoring_case(tmp_path: Path) -> None:
    images = ["1.jpg", "2.JPEG", "3.Png", "4.webp", "5.bmp", "6.gif", "7.tif", "8.TIFF"]
    write_images(tmp_path, *images, "notes.txt", "jpg", "9.jpg.part")
    assert names(tmp_path) == images
    assert len(names(tmp_path, every_file=True)) == len(images) + 3


def test_hidden_files_and_folders_are_skipped(tmp_path: Path) -> None:
    write_images(tmp_path, ".a.jpg", ".git/b.jpg", "c.jpg")
    assert names(tmp_path, every_file=True) == ["c.jpg"]


def test_system_files_are_skipped(tmp_path: Path) -> None:
    write_images(
        tmp_path, "__MACOSX/a.jpg", "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "Thumbs.db", "b/desktop.ini", "b/c.jpg"
    )
    assert names(tmp_path, every_file=True) == ["b/c.jpg"]


def test_links_are_followed_only_to_files_in_the_same_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    write_images(inside, "a.jpg", "sub/b.jpg")
    write_images(outside, "secret.jpg")
    (inside / "kept.jpg").symlink_to("a.jpg")
    (inside / "left.jpg").symlink_to(outside / "secret.jpg")
    (inside / "broken.jpg").symlink_to("nowhere.jpg")
    (inside / "loop").symlink_to(inside)
    (inside / "folder").symlink_to(outside)
    assert names(inside) == ["a.jpg", "kept.jpg", "sub/b.jpg"]


def test_a_pipe_is_skipped(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert names(tmp_path, every_file=True) == []


def test_a_file_that_is_named_directly_needs_no_image_extension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, "photos/a.jpg", "notes.txt")
    monkeypatch.chdir(tmp_path)
    assert names(Path("notes.txt")) == ["notes.txt"]
    assert names(Path("photos"), Path("notes.txt")) == ["photos/a.jpg", "notes.txt"]


def test_undecodable_bytes_of_a_name_are_escaped(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"image")
    (found,) = find_files([tmp_path])
    assert found.name == "caf\\udce9.jpg"
    assert found.path.read_bytes() == b"image"


@pytest.mark.parametrize(("folder", "name"), [("a/b", "b"), ("a/b/", "b"), (".", "b"), ("..", "a")])
def test_the_name_of_a_folder_is_its_last_part(
    folder: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert folder_name(folder) == name


def test_a_file_that_is_too_large_for_an_image_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(1_000_000_001)
    with pytest.raises(OSError, match="File too large"):
        read_file(path)


def test_a_folder_that_cannot_be_read_is_yielded_like_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, "a.jpg", "shut/b.jpg")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "shut":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # a test that runs as root may read every folder
    assert names(tmp_path) == ["a.jpg", "shut"]


def test_skipped_files_are_counted_by_their_extension(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.txt", "sub/c.TXT", "d.jp2", "e", ".hidden.txt", ".git/f.txt", "g.jpg.part")
    write_images(tmp_path.parent / "out", "secret.jpg")
    (tmp_path / "left.jpg").symlink_to(tmp_path.parent / "out" / "secret.jpg")
    (tmp_path / "folder").symlink_to(tmp_path.parent / "out")
    os.mkfifo(tmp_path / "pipe.jpg")
    counts: Counter[str] = Counter()
    assert len(list(find_files([tmp_path], on_skip=partial(count_skipped, counts)))) == 1
    assert counts == {
        ".txt": 2,
        ".jp2": 1,
        ".part": 1,
        "without extension": 1,
        "links out of the folder": 1,
        "special files": 1,
    }
    assert skipped_text(Counter({".jp2": 1, ".txt": 1200})) == "1,201 files skipped: 1,200 .txt, 1 .jp2"
    assert skipped_text(Counter({".jp2": 1})) == "1 file skipped: 1 .jp2"


def test_the_number_of_counted_extensions_is_limited(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"a.{number}" for number in range(100)), f"b.{'x' * 100}")
    counts: Counter[str] = Counter()
    assert list(find_files([tmp_path], on_skip=partial(count_skipped, counts))) == []
    assert len(counts) <= 21
    assert counts.total() == 101
