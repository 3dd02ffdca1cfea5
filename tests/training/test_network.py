"""Inputs, outputs and size of the networks, and the bundle of an untrained network."""

from pathlib import Path

import keras
import numpy as np
import pytest

from bundle.golden import golden_inputs
from bundle.manifest import MODEL_FILE, read_manifest
from training.errors import BackboneError, TrainingError
from training.networks.architectures import ARCHITECTURES, NetworkSpec, build_network
from training.networks.transfer import load_backbone
from training.release.bundling import BundleFacts, check_parity, write_bundle
from training.release.untrained import export_untrained


@pytest.mark.parametrize(
    ("architecture", "classes", "units"), [*((name, 2, 1) for name in sorted(ARCHITECTURES)), ("baseline_cnn", 5, 5)]
)
def test_every_network_maps_uint8_pixels_to_probabilities(architecture: str, classes: int, units: int) -> None:
    network = build_network(NetworkSpec(architecture, 64, 48, classes))
    pixels = np.zeros((2, 64, 48, 3), np.uint8)
    outputs = network.predict(pixels, verbose=0)
    assert outputs.shape == (2, units)
    assert outputs.dtype == np.float32
    assert ((outputs >= 0) & (outputs <= 1)).all()
    assert np.allclose(outputs, network.predict(pixels.astype(np.float32), verbose=0), atol=1e-6)


def test_the_baseline_is_the_network_of_the_old_pipeline() -> None:
    network = build_network(NetworkSpec("baseline_cnn", 224, 224))
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == [
        "InputLayer", "Rescaling", *["Conv2D", "MaxPooling2D"] * 3, "Flatten", "Dense", "Dropout", "Dense"
    ]  # fmt: skip
    assert network.count_params() == 11_169_089


def test_compact_is_smaller_than_ten_megabytes() -> None:
    assert 4 * build_network(NetworkSpec("compact", 128, 128)).count_params() < 9.5e6


def test_an_unknown_architecture_is_reported() -> None:
    with pytest.raises(TrainingError, match=r"train\.architecture"):
        build_network(NetworkSpec("resnet9000", 64, 64))


def test_an_unknown_backbone_is_reported() -> None:
    with pytest.raises(TrainingError, match=r"train\.backbone: .*efficientnet_lite0, .*mobilenet_v3_small"):
        build_network(NetworkSpec("transfer", 64, 64, backbone="resnet9000"))


def test_missing_backbone_weights_of_keras_are_reported() -> None:
    network = build_network(NetworkSpec("transfer", 64, 64, backbone="mobilenet_v3_small"))
    with pytest.raises(BackboneError, match=r"train\.backbone_weights: cannot load 'nowhere"):
        load_backbone(network, "mobilenet_v3_small", "nowhere.weights.h5")


def test_an_untrained_bundle_returns_the_golden_outputs_in_its_manifest(tmp_path: Path) -> None:
    spec = NetworkSpec("baseline_cnn", 40, 40)
    exported = export_untrained(spec, tmp_path / "bundle", labels=["cat", "dog"], seed=4)
    assert export_untrained(spec, tmp_path / "again", labels=["cat", "dog"], seed=4).version == exported.version
    manifest = read_manifest(tmp_path / "bundle")
    assert manifest == exported
    network = keras.saving.load_model(tmp_path / "bundle" / MODEL_FILE)
    assert not network.compiled
    outputs = manifest.read_outputs(network.predict(golden_inputs(40, 40), verbose=0)).probabilities
    assert np.abs(outputs - np.array(manifest.golden.outputs)).max() < 1e-5
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "again"}


@pytest.mark.slow
def test_a_network_that_bfloat16_changes_too_much_is_exported_for_float32(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = keras.Input((32, 32, 3), name="pixels")
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(pixels))
    network = keras.Model(pixels, keras.layers.Dense(1, activation="sigmoid")(features))
    undecided = golden_inputs(32, 32)[0, :, :, 0].mean() / 255  # so bfloat16's rounding decides for one golden input
    network.layers[-1].set_weights([np.array([[5000.0], [0.0], [0.0]]), np.array([-5000 * undecided])])
    write_bundle(network, BundleFacts(name="steep", labels=["cat", "dog"]), tmp_path / "bundle", check=check_parity)
    assert "so workers serve this bundle in float32" in capfd.readouterr().out
