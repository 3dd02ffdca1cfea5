"""Whatever is wrong with data, knobs, disk or server: one sentence that names it, and nothing half-written."""

import errno
import json
import re
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from bundle.manifest import read_manifest
from tests.training.drawn import drawn_jpeg, tiny_params, write_folders, write_tar
from training import checkpoint, fit, listing, prepare, run, tracking
from training.errors import ERROR_FILE_VARIABLE, run_command
from training.export_untrained import export_untrained
from training.network import NetworkSpec


def told(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *args: str | Path) -> str:
    """Run a command that fails, in this process; give the one sentence that it ends with."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, args)])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    sentence = str(ended.value.code)
    assert sentence.startswith("Error: ")
    assert "\n" not in sentence
    return sentence


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with the parameters of seconds."""
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path)
    return tmp_path


def write_params(folder: Path, **train: object) -> None:
    knobs = yaml.safe_load(tiny_params(**train).model_dump_json())
    (folder / "params.yaml").write_text(yaml.safe_dump(knobs), encoding="utf-8")


def one_class(folder: Path) -> Path:
    return write_folders(folder / "one", 30, ("lying",))


def too_few(folder: Path) -> Path:
    return write_folders(folder / "few", 1)


def empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def unreadable(folder: Path) -> Path:
    (folder / "unreadable.tar").write_bytes(b"no archive" * 100)
    return folder / "unreadable.tar"


def climbing(folder: Path) -> Path:
    return write_tar(folder / "climbing.tar", {"../../lying/1.jpg": drawn_jpeg(0, 1)})


def bomb(folder: Path) -> Path:
    """A megabyte that unpacks to one large file."""
    with tarfile.open(folder / "bomb.tar.gz", "w:gz", compresslevel=1) as archive:
        info = tarfile.TarInfo("lying/1.jpg")
        info.size = 300_000_000
        archive.addfile(info, SimpleNamespace(read=bytes))  # type: ignore[arg-type]
    return folder / "bomb.tar.gz"


def all_broken(folder: Path) -> Path:
    return write_tar(folder / "broken.tar", {f"{name}/1.jpg": b"no image" for name in ("lying", "standing")})


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (empty, r"empty holds no labelled image"),
        (one_class, r"only the class 'lying'"),
        (too_few, r"class 'lying' has 1 images, too few .* prepare\.validation"),
        (unreadable, r"unreadable\.tar is no readable folder, tar or zip"),
        (climbing, r"climbing\.tar is refused: .* climbs out"),
        (bomb, r"bomb\.tar\.gz is refused: 'lying/1\.jpg' is larger than any image"),
        (all_broken, r"no usable image"),
    ],
)
def test_bad_data_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path], named: str
) -> None:
    (here / "given").mkdir()
    listing.list_sources([str(make(here / "given"))], listing.SOURCES_FILE)
    sentence = told(monkeypatch, prepare.main)
    assert re.search(named, sentence), sentence
    assert not list((here / "build").iterdir())


def test_a_corrupt_image_among_good_ones_is_left_out_and_listed(here: Path) -> None:
    images = write_folders(here / "images", 40)
    (images / "lying" / "cut.jpg").write_bytes(drawn_jpeg(0, 99)[:300])
    prepare.prepare([images], tiny_params(), here / "prepared")
    report = json.loads((here / "prepared" / "report.json").read_text(encoding="utf-8"))
    assert report["kept"] == 80
    assert "broken" in report["dropped"]["images/lying/cut.jpg"]


@pytest.mark.parametrize(
    ("given", "named"),
    [([], "Give DATA=path"), (["nowhere.tar"], "DATA: nothing matches 'nowhere.tar'")],
)
def test_missing_data_is_named(here: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], named: str) -> None:
    assert named in told(monkeypatch, run.main, *given)


def test_a_wrong_knob_is_named_before_anything_is_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    knobs = (here / "params.yaml").read_text(encoding="utf-8")
    (here / "params.yaml").write_text(knobs.replace("batch_size: 16", "batch_size: many"), encoding="utf-8")
    assert re.search(r"params\.yaml: train\.batch_size", told(monkeypatch, run.main, "nowhere.tar"))


def test_an_unknown_architecture_is_named(prepared: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_params(here, architecture="huge")
    sentence = told(monkeypatch, fit.main, "--prepared", prepared)
    assert "train.architecture: 'huge' is unknown" in sentence
    assert not (here / "build").exists()


def test_a_failed_stage_leaves_its_sentence_for_the_end(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ERROR_FILE_VARIABLE, str(here / "sentence"))
    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as ended:
        run_command(prepare.main)
    assert ended.value.code == 1
    assert "make train DATA=path" in (here / "sentence").read_text(encoding="utf-8")


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "somewhere")


def test_too_small_a_disk_is_told_before_images_are_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing.list_sources([str(write_folders(here / "images", 30))], listing.SOURCES_FILE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=1000))
    assert re.search(r"disk of build has 0\.0 GB free .* input\.height", told(monkeypatch, prepare.main))
    assert not list((here / "build").iterdir())


def test_a_disk_that_fills_while_images_are_written_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing.list_sources([str(write_folders(here / "images", 30))], listing.SOURCES_FILE)
    monkeypatch.setattr("training.prepared.SplitWriter.append", full_disk)
    assert "No space is left on the disk of somewhere" in told(monkeypatch, prepare.main)
    assert not list((here / "build").iterdir())


def test_a_disk_that_fills_while_training_keeps_the_result_before(
    prepared: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(here, architecture="baseline_cnn", epochs=1)
    (here / "build" / "trained").mkdir(parents=True)
    monkeypatch.setattr(checkpoint.np, "savez", full_disk)
    assert "No space is left" in told(monkeypatch, fit.main, "--prepared", prepared)
    assert [path.name for path in (here / "build").iterdir() if path.name != "checkpoint"] == ["trained"]


def test_a_disk_that_fills_while_packing_keeps_the_bundle_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, labels = NetworkSpec("baseline_cnn", 32, 32), ["cat", "dog"]
    before = export_untrained(spec, tmp_path / "bundle", labels=labels, seed=1)
    monkeypatch.setattr("keras.Model.save", full_disk)
    said = told(monkeypatch, lambda: export_untrained(spec, tmp_path / "bundle", labels=labels, seed=2) and None)
    assert "No space is left" in said
    assert read_manifest(tmp_path / "bundle") == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_missing_or_unreachable_server_is_named_and_the_result_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_untrained(NetworkSpec("baseline_cnn", 32, 32), tmp_path / "bundle", labels=["cat", "dog"], seed=1)
    for address in ("http://127.0.0.1:9", "http://nowhere.invalid:5000", "nothing://here"):
        monkeypatch.setenv("PAWQUEUE_MLFLOW_TRACKING_URI", address)
        sentence = told(monkeypatch, tracking.main, "--build", tmp_path)
        assert f"MLflow at {address} (PAWQUEUE_MLFLOW_TRACKING_URI) does not answer" in sentence
        assert "make mlflow-upload" in sentence
    assert (tmp_path / "bundle" / "model.keras").is_file()
