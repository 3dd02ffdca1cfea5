"""A pretrained network is trained in two steps: its head on frozen features, then all of its layers."""

from pathlib import Path

import keras
import numpy as np
import pytest

from bundle.manifest import MODEL_FILE, read_manifest
from tests.training.synthetic import tiny_params, write_folders
from training.data.balance import imbalance_note
from training.data.splits import ImageFacts, Split, read_split
from training.networks.architectures import NetworkSpec, build_network, predict
from training.networks.checkpoint import load_trained
from training.networks.transfer import fold_batch_normalization, load_backbone
from training.params import Params
from training.quality.plots import draw_plots
from training.release.bundling import BundleFacts, write_bundle
from training.stages.prepare import prepare
from training.stages.train import class_weights, train

NAMES = ("lying", "standing", "crossed")


def params_of(**train: object) -> Params:
    return tiny_params(architecture="transfer", learning_rate=0.0003, **train)


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared images of three classes."""
    folder = tmp_path_factory.mktemp("three")
    prepare([write_folders(folder / "images", 40, NAMES)], tiny_params(), folder / "prepared")
    return folder / "prepared"


def test_the_head_is_trained_on_frozen_features(three_classes: Path, tmp_path: Path) -> None:
    params = params_of(epochs=0)
    progress = train(three_classes, params, tmp_path / "state", tmp_path / "trained")
    assert [row["epoch"] for row in progress.history] == [0]
    network, record = load_trained(tmp_path / "trained")
    assert record.started_from.startswith("efficientnet_lite0-")
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)
    test = read_split(three_classes, "test")
    assert (predict(network, test.pixels).argmax(axis=1) == test.targets).mean() > 0.8


@pytest.mark.slow
def test_a_run_starts_from_a_bundle_whose_normalization_was_folded(three_classes: Path, tmp_path: Path) -> None:
    spec = NetworkSpec("transfer", 64, 64, classes=3)
    trained = build_network(spec)
    load_backbone(trained, spec.backbone, "imagenet")
    for weight in trained.trainable_weights:
        weight.assign(weight * 1.02)
    write_bundle(fold_batch_normalization(trained), BundleFacts(name="x", labels=list(NAMES)), tmp_path / "bundle")
    params = params_of(epochs=0, start_weights=str(tmp_path / "bundle" / MODEL_FILE))
    progress = train(three_classes, params, tmp_path / "state", tmp_path / "trained")
    network, record = load_trained(tmp_path / "trained")
    test = read_split(three_classes, "test")
    expected = build_network(spec, any_size=True)
    expected.set_weights(trained.get_weights())
    assert [row["epoch"] for row in progress.history] == [0]
    assert record.started_from == read_manifest(tmp_path / "bundle").version
    probabilities = predict(network, test.pixels)
    assert np.abs(probabilities - predict(expected, test.pixels)).max() < 1e-4
    draw_plots(tmp_path, test, probabilities, tmp_path / "trained")


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_fine_tuning_resumes_after_the_head_and_trains_all_layers(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params_of(epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(prepared, params, tmp_path / "state", tmp_path / "trained")
    head_file = tmp_path / "state" / "state.npz"
    assert head_file.is_file()
    progress = train(prepared, params, tmp_path / "state", tmp_path / "trained")
    assert [row["epoch"] for row in progress.history] == [0, 1, 2]
    assert all(row["seconds"] >= 0 and row["val_accuracy"] > 0.5 for row in progress.history)


def interrupt(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


def test_a_user_is_told_that_classes_are_weighted() -> None:
    note = imbalance_note({"hen": 210, "fox": 10, "owl": 100})
    assert note == "classes are weighted, because hen has 210 training images and fox has 10"
    assert not imbalance_note({"hen": 200, "fox": 10})


def split_of(counts: dict[str, int]) -> Split:
    facts = [ImageFacts(f"{label}/{n}", label, str(n), 32, 32) for label, count in counts.items() for n in range(count)]
    return Split(np.zeros((len(facts), 1, 1, 3), np.uint8), facts, list(counts))


def test_an_imbalance_above_20_to_1_is_made_up_for_with_class_weights() -> None:
    assert class_weights(split_of({"hen": 200, "fox": 10})) is None
    weights = class_weights(split_of({"hen": 210, "fox": 10, "owl": 100}))
    assert weights
    assert weights[0] * 210 == pytest.approx(weights[1] * 10) == pytest.approx(weights[2] * 100)
