"""Labels are found in every supported layout; damaged and malicious archives are rejected."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.training.synthetic import striped_jpeg, write_tar
from training.data.sources import label_names, list_sources, read_locations, read_sources
from training.errors import TrainingError

IMAGE = striped_jpeg(0, 1)


def labels(path: Path, rename: dict[str, str] | None = None, max_unpacked_bytes: float = 1e9) -> dict[str, str]:
    found = read_sources([path], rename=rename or {}, max_unpacked_bytes=max_unpacked_bytes)
    return {file.name: file.label for file in found}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cats/1.jpg", "dogs/1.jpg"], {"cats/1.jpg": "cats", "dogs/1.jpg": "dogs"}),
        (["PetImages/Cat/0.jpg"], {"PetImages/Cat/0.jpg": "cat"}),
        (["cats/cat.00001.jpg"], {"cats/cat.00001.jpg": "cats"}),
        (["train/cat.0.jpg", "train/dog.0.jpg"], {"train/cat.0.jpg": "cat", "train/dog.0.jpg": "dog"}),
        (["cat.0.jpg"], {"cat.0.jpg": "cat"}),
        (["loose.jpg"], {}),
        (["a/x.png", "b/y.webp", "c/z.gif"], {"a/x.png": "a", "b/y.webp": "b", "c/z.gif": "c"}),
    ],
)
def test_the_label_is_the_folder_name_or_the_part_before_the_dot(names: list[str], expected: dict[str, str]) -> None:
    assert label_names(names) == expected


def test_folder_tar_and_zip_give_the_same_labels(tmp_path: Path) -> None:
    members = {"cats/1.jpg": IMAGE, "dogs/1.jpg": IMAGE, "README.md": b"not an image", "dogs/.hidden.jpg": b""}
    members |= dict.fromkeys(("__MACOSX/cats/1.jpg", "cats/@eaDir/1.jpg", "cats/._1.jpg"), b"junk")
    folder = tmp_path / "all"
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    tar = write_tar(tmp_path / "all.tar", members)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    for path in (folder, tar, tmp_path / "all.zip"):
        assert labels(path, {"cats": "cat", "dogs": "dog"}) == {
            f"{path.name}/cats/1.jpg": "cat",
            f"{path.name}/dogs/1.jpg": "dog",
        }


@pytest.mark.parametrize("name", ["../cats/1.jpg", "/cats/1.jpg", "cats/../../1.jpg"])
def test_an_archive_with_paths_outside_its_folder_is_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrainingError, match="outside the archive's folder"):
        labels(write_tar(tmp_path / "a.tar", {name: IMAGE}))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, IMAGE)
    with pytest.raises(TrainingError, match="outside the archive's folder"):
        labels(tmp_path / "a.zip")


def test_a_decompression_bomb_is_rejected_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("cats/1.jpg")
        info.size = 20_000_000
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(TrainingError, match=r"prepare\.max_unpacked_gb"):
        labels(path, max_unpacked_bytes=1e6)


@pytest.mark.parametrize("name", ["broken.tar", "broken.zip", "broken.tar.gz"])
def test_the_error_names_an_unreadable_archive(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes((b"PK\x03\x04" if name.endswith("zip") else b"\x1f\x8b\x08\x00") + bytes(300))
    with pytest.raises(TrainingError, match=name):
        labels(path)


def test_the_error_names_a_truncated_archive(tmp_path: Path) -> None:
    path = tmp_path / "cut.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for index in range(20):
            info = tarfile.TarInfo(f"cats/{index}.jpg")
            info.size = len(IMAGE)
            archive.addfile(info, io.BytesIO(IMAGE))
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(TrainingError, match=r"cut\.tar\.gz"):
        labels(path)


def test_a_source_without_labeled_images_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="contains no labeled images"):
        labels(tmp_path)


def test_the_list_of_sources_does_not_change_when_the_data_moves(tmp_path: Path) -> None:
    listing = tmp_path / "data" / "sources.csv"
    (tmp_path / "here").mkdir()
    tar = write_tar(tmp_path / "here" / "a.tar", {"cats/1.jpg": IMAGE})
    list_sources([str(tmp_path / "here" / "*.tar")], listing)
    before = listing.read_text()
    assert str(tmp_path) not in before
    assert read_locations(listing) == [tar]
    moved = tar.rename(tmp_path / "a.tar")
    list_sources([str(moved)], listing)
    assert listing.read_text() == before
    assert read_locations(listing) == [moved]


def test_one_argument_can_name_several_sources(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_tar(tmp_path / name, {"cats/1.jpg": IMAGE})
    found = list_sources([f"{tmp_path / 'a.tar'} {tmp_path / 'b.tar'}"], tmp_path / "sources.csv")
    assert [source.name for source in found] == ["a.tar", "b.tar"]


@pytest.mark.parametrize("pattern", ["nowhere", "no*where", "no where"])
def test_a_pattern_without_matches_is_reported(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(TrainingError, match="nothing matches"):
        list_sources([pattern], tmp_path / "sources.csv")
