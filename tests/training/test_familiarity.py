"""Familiarity: fitted on prepared images, carried by a bundle, and computed together with the prediction."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from bundle.familiarity import UNFAMILIAR_BELOW, Prototypes, write_prototypes
from bundle.manifest import BundleError, read_manifest, sha256_of
from tests.training.synthetic import tiny_params
from training.data.splits import Split, read_split
from training.errors import TrainingError
from training.networks.architectures import NetworkSpec, build_network
from training.networks.transfer import fold_batch_normalization
from training.quality.familiarity import (
    FamiliarityFit,
    feature_layer,
    fit_familiarity,
    read_familiarity,
    write_familiarity,
)
from training.quality.unfamiliar import measure_unfamiliar
from training.release.bundling import BundleFacts, check_parity, write_bundle
from worker.runtime.keras import load_model

SPEC = NetworkSpec("compact", 32, 32)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """An untrained network: even its features tell stripes from noise."""
    keras.utils.set_random_seed(1)
    return build_network(SPEC)


@pytest.fixture(scope="module")
def splits(prepared: Path) -> dict[str, Split]:
    return {name: read_split(prepared, name) for name in ("train", "validation", "test")}


@pytest.fixture(scope="module")
def fit(network: keras.Model, splits: dict[str, Split]) -> FamiliarityFit:
    return fit_familiarity(network, **splits, seed=0)


@pytest.fixture(scope="module")
def bundle(network: keras.Model, fit: FamiliarityFit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("familiar") / "bundle"
    facts = BundleFacts("stripes", ["lying", "standing"], prototypes=fit.prototypes, familiarity=fit.scale)
    write_bundle(network, facts, folder, check=check_parity)
    return folder


def noise(count: int) -> Any:
    return np.random.default_rng(0).integers(256, size=(count, 32, 32, 3), dtype=np.uint8)


@pytest.mark.slow
def test_the_worker_computes_the_familiarity_that_was_measured_in_training(
    bundle: Path, fit: FamiliarityFit, splits: dict[str, Split]
) -> None:
    model = load_model(bundle, "float32", 4, 1)
    test = splits["test"]
    found = model.predict(np.asarray(test.pixels))
    assert found.familiarity is not None
    assert np.abs(found.familiarity - fit.test).max() < 0.02  # of an untrained network, similarities are close together
    assert found.familiarity.mean() > 0.2
    assert found.probabilities.shape == (len(test.facts), 2)
    strange = model.predict(noise(4)).familiarity
    assert strange is not None
    assert strange.max() < UNFAMILIAR_BELOW


def test_familiarity_does_not_change_the_probabilities(bundle: Path, network: keras.Model) -> None:
    pixels = noise(3)
    expected = network.predict(pixels, verbose=0)[:, 0]
    assert np.allclose(load_model(bundle, "float32", 4, 1).predict(pixels).probabilities[:, 1], expected, atol=1e-5)


def test_the_share_of_strange_images_that_are_noticed_is_measured(bundle: Path, prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "strange" / "noise"
    folder.mkdir(parents=True)
    for number, pixels in enumerate(noise(6)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"not an image")
    found = measure_unfamiliar(bundle, prepared, [tmp_path / "strange"], tiny_params().prepare)
    assert found["auc"] > 0.9
    assert (found["other"]["pictures"], found["other"]["unfamiliar"]["value"]) == (6, 1.0)
    assert found["test"]["unfamiliar"]["value"] < 0.5
    assert found["version"] == read_manifest(bundle).version


@pytest.mark.slow
def test_a_bundle_without_prototypes_has_no_familiarity(network: keras.Model, tmp_path: Path) -> None:
    write_bundle(network, BundleFacts("stripes", ["lying", "standing"]), tmp_path / "plain", check=check_parity)
    assert load_model(tmp_path / "plain", "float32", 4, 1).predict(noise(1)).familiarity is None


def test_a_bundle_whose_similarities_differ_from_the_golden_ones_is_not_served(
    bundle: Path, fit: FamiliarityFit, tmp_path: Path
) -> None:
    manifest = read_manifest(bundle)
    folder = tmp_path / "turned"
    folder.mkdir()
    (folder / "model.keras").write_bytes((bundle / "model.keras").read_bytes())
    write_prototypes(replace(fit.prototypes, vectors=np.roll(fit.prototypes.vectors, 1, axis=1)), folder)
    checksums = {name: sha256_of(folder / name) for name in manifest.sha256}
    changed = manifest.model_copy(update={"sha256": checksums})
    (folder / "manifest.json").write_text(changed.to_json(), encoding="utf-8")
    with pytest.raises(BundleError, match="golden outputs"):
        load_model(folder, "float32", 4, 1)


def test_bundles_without_a_whitening_matrix_are_served(
    network: keras.Model, fit: FamiliarityFit, tmp_path: Path
) -> None:
    prototypes, scale = Prototypes(fit.prototypes.vectors), fit.scale.model_copy(update={"whitened": False})
    facts = BundleFacts("stripes", ["lying", "standing"], prototypes=prototypes, familiarity=scale)
    write_bundle(network, facts, tmp_path / "bundle")
    found = load_model(tmp_path / "bundle", "float32", 4, 1).predict(noise(2)).familiarity
    assert found is not None
    assert found.shape == (2,)


def test_nearly_all_validation_images_are_familiar_and_the_least_familiar_ones_are_not(
    fit: FamiliarityFit, splits: dict[str, Split]
) -> None:
    scale = fit.scale.of(np.array(fit.scale.percentiles))
    assert np.allclose(scale, np.linspace(0, 1, 101), atol=0.05)  # of an untrained network, some similarities are equal
    assert fit.scale.of(np.array([fit.scale.percentiles[0] - 0.1, 1.0])).tolist() == [0, 1]


def test_any_number_of_classes_gets_prototypes_for_each(splits: dict[str, Split]) -> None:
    names = ["a", "b", "c"]
    parts = {
        name: replace(split, labels=names, facts=[replace(f, label=names[i % 3]) for i, f in enumerate(split.facts)])
        for name, split in splits.items()
    }
    found = fit_familiarity(build_network(NetworkSpec("baseline_cnn", 32, 32, classes=3)), **parts, seed=0)
    assert len(found.prototypes.vectors) == len(parts["train"].facts)  # fewer images than prototypes allowed
    assert np.allclose(np.linalg.norm(found.prototypes.vectors, axis=1), 1, atol=1e-5)


def test_the_features_of_a_network_without_convolutions_are_the_input_of_its_last_layer() -> None:
    pixels = keras.Input((8, 8, 3), name="pixels")
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(pixels)
    assert feature_layer(keras.Model(pixels, keras.layers.Dense(1)(pooled))) == "pooled"


def test_the_features_are_those_before_the_last_convolution_or_residual_block() -> None:
    compact, pretrained = (build_network(NetworkSpec(name, 32, 32)) for name in ("compact", "transfer"))
    *_, before_last_block, _last = [layer.name for layer in compact.layers if isinstance(layer, keras.layers.ReLU)]
    assert feature_layer(compact) == before_last_block
    assert feature_layer(fold_batch_normalization(pretrained)) == "blocks.15.project_conv"


def test_a_fit_is_read_as_it_was_written(fit: FamiliarityFit, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="dvc repro evaluate"):
        read_familiarity(tmp_path)
    write_familiarity(fit, tmp_path)
    found = read_familiarity(tmp_path)
    assert found.scale == fit.scale
    assert (found.prototypes.vectors == fit.prototypes.vectors).all()
    assert found.prototypes.whitening is not None
    assert (found.prototypes.whitening == fit.prototypes.whitening).all()
    assert (found.test == fit.test).all()
