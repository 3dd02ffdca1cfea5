"""Training on a full disk: a one-line error, unchanged earlier outputs, and a next run that succeeds."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle.manifest import read_manifest
from tests.support.small_disk import SmallDisk, small_disk
from tests.training.synthetic import ROOT, write_folders
from tests.training.test_bad_input import failure_of, write_params
from training.data.sources import SOURCES_FILE, list_sources
from training.networks.architectures import NetworkSpec
from training.params import read_params
from training.release.promotion import promote
from training.release.untrained import export_untrained
from training.stages import prepare, train

Patch = pytest.MonkeyPatch


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 60_000) as disk:
        yield disk


@pytest.fixture
def here(disk: SmallDisk, monkeypatch: Patch) -> Path:
    """An empty project on the small disk."""
    monkeypatch.chdir(disk.path)
    write_params(disk.path, architecture="baseline_cnn", epochs=1)
    return disk.path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("free_bytes", "expected"),
    [
        (40_000, r"Disk is full: .* build has 0\.0 GB free.* input\.height"),  # before anything is written
        (300_000, "Disk is full: cannot write the output folder"),
    ],
)
def test_prepare_leaves_nothing(
    here: Path, disk: SmallDisk, tmp_path: Path, monkeypatch: Patch, free_bytes: int, expected: str
) -> None:
    list_sources([str(write_folders(tmp_path / "images", 30))], SOURCES_FILE)
    disk.fill(free_bytes)
    assert re.search(expected, failure_of(monkeypatch, prepare.main))
    assert names(here / "build") == []

    disk.make_room()
    prepare.prepare([tmp_path / "images"], read_params(Path("params.yaml")), here / "build" / "prepared")


@pytest.mark.parametrize("free_bytes", [100_000, 1_000_000])  # the best weights do not fit; the checkpoint does not
def test_training_keeps_the_earlier_result_and_the_space_that_it_needs(
    prepared: Path, here: Path, disk: SmallDisk, monkeypatch: Patch, free_bytes: int
) -> None:
    (here / "build" / "trained").mkdir(parents=True)
    (here / "build" / "trained" / "weights.npz").write_text("earlier")
    disk.fill(free_bytes)
    message = failure_of(monkeypatch, train.main, "--prepared", prepared)
    assert message == "Error: Disk is full: cannot write the output folder. Free some space and run again."
    assert (here / "build" / "trained" / "weights.npz").read_text() == "earlier"
    assert not list((here / "build" / "checkpoint").glob("*.tmp"))


def test_export_keeps_the_earlier_bundle(here: Path, disk: SmallDisk, monkeypatch: Patch) -> None:
    spec, labels = NetworkSpec("baseline_cnn", 32, 32), ["cat", "dog"]
    before = export_untrained(spec, here / "bundle", labels=labels, seed=1)
    disk.fill(free_bytes=100_000)
    message = failure_of(monkeypatch, lambda: export_untrained(spec, here / "bundle", labels=labels, seed=2) and None)
    assert message.startswith("Error: Disk is full")
    assert read_manifest(here / "bundle") == before
    assert names(here) == ["ballast", "bundle", "params.yaml"]


def test_promotion_keeps_the_served_bundle(here: Path, disk: SmallDisk, monkeypatch: Patch) -> None:
    champion, challenger = here / "state" / "models" / "champion", ROOT / "models" / "cats-dogs"
    spec = NetworkSpec("baseline_cnn", 32, 32)
    before = export_untrained(spec, champion, labels=["cat", "dog"], seed=1)
    disk.fill(free_bytes=100_000)

    def promote_challenger() -> None:
        promote(challenger, champion, here / "state", force_reason="test", check=lambda _folder: None)

    assert "Disk is full" in failure_of(monkeypatch, promote_challenger)
    assert read_manifest(champion) == before
    assert names(champion.parent) == ["champion"]

    disk.make_room()
    promote_challenger()
    assert read_manifest(champion) == read_manifest(challenger)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_result_is_recorded_in_mlflow_when_there_is_space_again(here: Path, disk: SmallDisk) -> None:
    shutil.copytree(ROOT / "models" / "cats-dogs", here / "build" / "bundle")
    for name, text in (("trained/history.json", '{"epochs": [{"epoch": 1, "loss": 0.5}]}'), ("evaluated/a.json", "{}")):
        (here / "build" / name).parent.mkdir()
        (here / "build" / name).write_text(text)
    command = [sys.executable, "-m", "training.release.tracking"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    disk.fill(free_bytes=400_000)  # not enough for the tables of a new database
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Error: Disk is full: MLflow cannot write to sqlite:///mlflow.db or to the temporary folder. Free some space. "
        "The result is kept in build. Upload it with `make mlflow-upload`."
    )

    disk.make_room()
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert "Recorded: version 1 of cats-dogs" in done.stdout
