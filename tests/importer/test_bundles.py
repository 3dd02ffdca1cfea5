"""`pawqueue models import` of a bundle that a training made, and of a file that a newer Keras saved."""

import json
import shutil
import zipfile
from pathlib import Path

import keras
import pytest

from bundle.locate import INCLUDED
from bundle.manifest import read_manifest
from tests.importer.importing import import_command


def test_a_bundle_is_added_to_the_store_under_its_name_or_another(tmp_path: Path) -> None:
    for options, name in (((), "cats-dogs"), (("--name", "pets"), "pets")):
        done = import_command(tmp_path, INCLUDED, *options)
        assert done.returncode == 0, done.stderr
        expected = read_manifest(INCLUDED).model_copy(update={"name": name})
        assert read_manifest(tmp_path / "state" / "models" / name / expected.version) == expected
        assert done.stdout.startswith(f"Imported {name} {expected.version}.")
        assert import_command(tmp_path, INCLUDED, *options).returncode == 0  # again: nothing changes


def test_options_that_a_bundle_decides_itself_are_refused(tmp_path: Path) -> None:
    done = import_command(tmp_path, INCLUDED, "--labels", "a,b", "--size", "32x32")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is a bundle, so --labels, --size cannot be changed" in done.stderr
    assert not (tmp_path / "state" / "models").exists()


def test_damaged_and_different_bundles_are_refused(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(INCLUDED, tmp_path / "copy"))
    assert import_command(tmp_path, copy).returncode == 0
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"labels": ["x", "y"]}))
    done = import_command(tmp_path, copy)
    assert done.returncode == 2
    assert "already has another bundle of cats-dogs@" in done.stderr
    (copy / "model.keras").write_bytes(b"damaged")
    done = import_command(tmp_path, copy)
    assert done.returncode == 2
    assert "differs from its checksum" in done.stderr


def test_a_network_needs_a_name(tmp_path: Path) -> None:
    done = import_command(tmp_path, "model.keras")
    assert done.returncode == 2
    assert "--name" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("change", [('"class_name": "Dense"', '"class_name": "Denser"'), ('"units"', '"new_units"')])
def test_both_versions_are_named_if_a_newer_keras_saved_the_file(tmp_path: Path, change: tuple[str, str]) -> None:
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
    keras.Sequential(layers).save(tmp_path / "saved.keras")
    with zipfile.ZipFile(tmp_path / "saved.keras") as saved, zipfile.ZipFile(tmp_path / "new.keras", "w") as new:
        for name in saved.namelist():
            data = saved.read(name)
            if name == "metadata.json":
                data = json.dumps({**json.loads(data), "keras_version": "9.1.0"}).encode()
            if name == "config.json":
                data = data.replace(*(word.encode() for word in change))
            new.writestr(name, data)
    done = import_command(tmp_path, "new.keras", "--name", "pets", "--labels", "cat,dog", "--scale", "0..1")
    assert done.returncode == 2
    assert f"was saved by Keras 9.1.0, and the installed Keras {keras.__version__} cannot read it" in done.stderr
