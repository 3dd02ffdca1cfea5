"""The manifest of a bundle, its location, and the golden inputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.familiarity import PROTOTYPES_FILE
from bundle.golden import COUNT, RECIPE, fingerprint, golden_inputs
from bundle.locate import INCLUDED, bundle_to_serve, champion_folder
from bundle.manifest import MANIFEST_FILE, MODEL_FILE, BundleError, read_manifest, sha256_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / MODEL_FILE).write_bytes(b"weights")
    write(tmp_path)
    return tmp_path


def write(folder: Path, **changes: Any) -> None:
    values = {
        "schema": 1,
        "name": "cats-dogs",
        "version": "1",
        "architecture": "compact",
        "labels": ["cat", "dog"],
        "input": {"height": 32, "width": 32},
        "output": "sigmoid",
        "golden": {"recipe": RECIPE, "inputs_sha256": "0", "outputs": [[0.5, 0.5]]},
        "sha256": {MODEL_FILE: sha256_of(folder / MODEL_FILE)},
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(values | changes))


def test_a_manifest_is_read_as_it_was_written(folder: Path) -> None:
    manifest = read_manifest(folder)
    (folder / MANIFEST_FILE).write_text(manifest.to_json())
    assert read_manifest(folder) == manifest
    assert json.loads(manifest.to_json())["schema"] == 1


def test_only_the_bundle_with_the_given_checksum_is_accepted(folder: Path) -> None:
    checksum = sha256_of(folder / MANIFEST_FILE)
    assert read_manifest(folder, checksum) == read_manifest(folder)
    (folder / MODEL_FILE).write_bytes(b"other weights")
    write(folder)  # with checksums that match the files
    assert read_manifest(folder)
    with pytest.raises(BundleError, match="PAWQUEUE_MODEL_CHECKSUM"):
        read_manifest(folder, checksum)


def test_the_error_for_a_missing_bundle_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="PAWQUEUE_MODEL"):
        read_manifest(tmp_path / "missing")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["cat"]}, "labels"),
        ({"schema": 99}, "schema 99"),
        ({"input": {"height": 1, "width": 32}}, "input.height"),
        ({"sha256": {}}, "no checksum"),
        ({"sha256": {MODEL_FILE: "0", "other": "1"}}, "checksum|missing"),
        ({"output": "logits"}, "output"),
        ({"sha256": {MODEL_FILE: "0", "../other": "1"}}, "sha256.../other"),
        ({"sha256": {MODEL_FILE: "0", "/etc/passwd": "1"}}, "sha256./etc/passwd"),
        ({"familiarity": {"layer": "pool", "percentiles": [0, 1]}}, "no checksum for prototypes.npy"),
        ({"git_revision": "x" * 20_000_000}, "more than 20,000,000 bytes"),
    ],
)
def test_an_invalid_manifest_is_rejected(folder: Path, changes: dict[str, Any], message: str) -> None:
    write(folder, **changes)
    with pytest.raises(BundleError, match=message):
        read_manifest(folder)


def test_a_changed_model_is_rejected(folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(b"other weights")
    with pytest.raises(BundleError, match="differs from its checksum"):
        read_manifest(folder)


def test_a_missing_model_is_rejected(folder: Path) -> None:
    (folder / MODEL_FILE).unlink()
    with pytest.raises(BundleError, match="missing"):
        read_manifest(folder)


def test_a_sigmoid_output_is_the_probability_of_the_second_label(folder: Path) -> None:
    rows = read_manifest(folder).read_outputs(np.array([[0.25], [1.0]])).probabilities
    assert rows.tolist() == [[0.75, 0.25], [0.0, 1.0]]
    assert rows.dtype == np.float32


def test_softmax_outputs_are_the_probabilities(folder: Path) -> None:
    write(folder, output="softmax", labels=["a", "b", "c"])
    manifest = read_manifest(folder)
    assert manifest.read_outputs(np.array([[0.25, 0.5, 0.25]])).probabilities.tolist() == [[0.25, 0.5, 0.25]]
    with pytest.raises(BundleError, match="2 outputs per image"):
        manifest.read_outputs(np.array([[0.25, 0.75]]))


def test_familiarity_is_the_share_of_the_validation_images_that_are_less_similar(folder: Path) -> None:
    (folder / PROTOTYPES_FILE).write_bytes(b"prototypes")
    sums = {name: sha256_of(folder / name) for name in (MODEL_FILE, PROTOTYPES_FILE)}
    write(folder, familiarity={"layer": "last", "percentiles": [0.2, 0.6, 0.8]}, sha256=sums)
    found = read_manifest(folder).read_outputs(np.array([[0.25, 0.1], [0.5, 0.2], [1.0, 0.7], [1.0, 0.9]]))
    assert found.probabilities[:, 1].tolist() == [0.25, 0.5, 1.0, 1.0]
    assert found.familiarity is not None
    assert found.familiarity.tolist() == pytest.approx([0, 0, 0.75, 1], abs=1e-6)
    with pytest.raises(BundleError, match="1 outputs per image"):
        read_manifest(folder).read_outputs(np.array([[0.25]]))


def test_unknown_fields_are_rejected(folder: Path) -> None:
    write(folder, added_later=1)
    with pytest.raises(BundleError, match="added_later"):
        read_manifest(folder)


def test_golden_inputs_never_change() -> None:
    """Existing bundles contain this fingerprint; a different recipe needs a different name."""
    inputs = golden_inputs(64, 48)
    assert inputs.shape == (COUNT, 64, 48, 3)
    assert inputs.dtype == np.uint8
    assert fingerprint(inputs) == "b1f52caf6fc35369a0ca1ad3a6cedaa4b2e25f2a478dc1b5c4f15342406dd5a4"
    assert len({image.tobytes() for image in inputs}) == COUNT


def test_the_included_bundle_is_served_by_default(tmp_path: Path) -> None:
    assert bundle_to_serve(None, tmp_path) == INCLUDED
    assert read_manifest(INCLUDED).name == "cats-dogs"


def test_a_promoted_bundle_replaces_the_included_one(tmp_path: Path) -> None:
    champion_folder(tmp_path).mkdir(parents=True)
    assert bundle_to_serve(None, tmp_path) == champion_folder(tmp_path)


def test_a_chosen_bundle_takes_precedence(tmp_path: Path) -> None:
    champion_folder(tmp_path).mkdir(parents=True)
    assert bundle_to_serve(tmp_path / "mine", tmp_path) == tmp_path / "mine"
