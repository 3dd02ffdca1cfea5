"""The networks that can be trained. Each takes RGB pixels of 0..255 and returns probabilities.

To add a network, write a function like `compact` and list it in `ARCHITECTURES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.errors import TrainingError
from training.networks.transfer import BACKBONES, unfold_batch_normalization

_PREDICT_BATCH = 64


@dataclass(frozen=True)
class NetworkSpec:
    """The arguments from which a network is built. They are stored with its weights, so that it can be rebuilt."""

    architecture: str
    height: int
    width: int
    #: Number of classes. Two classes share one sigmoid unit, which returns the probability of the second.
    classes: int = 2
    dropout: float = 0.5
    #: The backbone of `transfer`, a name in `BACKBONES`.
    backbone: str = "efficientnet_lite0"

    @property
    def output(self) -> str:
        """Name of the last layer's activation, as in a bundle's manifest."""
        return "sigmoid" if self.classes == 2 else "softmax"


def build_network(spec: NetworkSpec, *, dtype: str = "float32", any_size: bool = False) -> keras.Model:
    """Build an untrained network; its random weights come from Keras's global seed.

    It takes uint8 or float RGB of (batch, height, width, 3), values 0..255, and returns float32 probabilities:
    (batch, 1) for two classes, otherwise (batch, classes).

    Args:
        spec: architecture, size and options of the network.
        dtype: Keras dtype policy of all layers except the last.
        any_size: whether to accept images of any size; only for networks with global pooling.

    Raises:
        TrainingError: the architecture or its backbone is unknown, or the input is too small for it.
    """
    for parameter, name, known in (
        ("architecture", spec.architecture, list(ARCHITECTURES)),
        ("backbone", spec.backbone, list(BACKBONES)),
    ):
        if name not in known:
            raise TrainingError(f"train.{parameter}: unknown {parameter} {name!r}. Use one of {', '.join(known)}.")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        size = (None, None) if any_size else (spec.height, spec.width)
        inputs = keras.Input((*size, 3), name="pixels")
        features = _features(inputs, spec)
        units = 1 if spec.output == "sigmoid" else spec.classes
        outputs = layers.Dense(units, activation=spec.output, dtype="float32", name="probability")(features)
        return keras.Model(inputs, outputs, name=spec.architecture)
    finally:
        keras.config.set_dtype_policy(before)


def load_weights(network: keras.Model, path: Path) -> keras.Model:
    """Set the weights of `network` to those of the saved Keras model at `path`, and return that model.

    If its batch normalization was folded, as in a bundle, the statistics of `network` are kept.

    Raises:
        TrainingError: Keras cannot read the model, or its weights have other shapes.
    """
    try:
        saved = keras.saving.load_model(path, compile=False, safe_mode=True)
        if network.name == "transfer" and len(saved.weights) < len(network.weights):
            unfold_batch_normalization(network, saved)
        else:
            network.set_weights(saved.get_weights())
    except Exception as error:  # Keras raises exceptions of many types for unreadable files
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"train.start_weights: cannot load {str(path)!r} ({reason}). Set it to the `model.keras` of a bundle with "
            "the same architecture and classes, or leave it empty."
        ) from error
    return saved


def predict(network: keras.Model, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return probabilities (n, classes) for uint8 images (n, height, width, 3).

    The result has one column per class, even if the network has a single output unit.
    """
    starts = range(0, len(pixels), _PREDICT_BATCH)
    parts = [network.predict_on_batch(np.asarray(pixels[start : start + _PREDICT_BATCH])) for start in starts]
    outputs = np.concatenate(parts).astype(np.float32)
    return np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs


def _features(x: keras.KerasTensor, spec: NetworkSpec) -> keras.KerasTensor:
    try:
        return ARCHITECTURES[spec.architecture](x, spec)
    except ValueError as error:
        raise TrainingError(
            f"input.height, input.width: {spec.height} x {spec.width} is too small for {spec.architecture}."
        ) from error


def baseline_cnn(x: keras.KerasTensor, spec: NetworkSpec) -> keras.KerasTensor:
    """The network of the old pipeline, unchanged, as a baseline."""
    x = layers.Rescaling(1 / 255, name="rescale")(x)
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    return layers.Dropout(spec.dropout)(x)


#: Filters and number of blocks of each stage. Every stage halves the sides of its input.
Stages = tuple[tuple[int, int], ...]
COMPACT_STAGES: Stages = ((32, 1), (64, 2), (128, 3), (192, 2))


def compact(x: keras.KerasTensor, spec: NetworkSpec, stages: Stages = COMPACT_STAGES) -> keras.KerasTensor:
    """A small residual network. It uses plain convolutions: on CPUs, separable ones are no faster and less accurate."""
    x = layers.Rescaling(1 / 255, name="rescale")(x)
    x = _normed_conv(x, 24, kernel=3, stride=2)
    for filters, blocks in stages:
        for index in range(blocks):
            x = _residual_block(x, filters, stride=2 if index == 0 else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dropout(spec.dropout)(x)


def _residual_block(x: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    """Two convolutions and a shortcut, which averages before it projects so that no pixel is skipped.

    The last scale starts at zero, so each block initially returns its shortcut; otherwise training hardly progresses.
    """
    kept = x
    if stride > 1:
        kept = layers.AveragePooling2D(stride, padding="same")(kept)
        kept = _normed_conv(kept, filters, kernel=1, activation=None)
    x = _normed_conv(x, filters, kernel=3, stride=stride)
    x = _normed_conv(x, filters, kernel=3, activation=None, scale="zeros")
    return layers.ReLU()(layers.Add()([x, kept]))


def _normed_conv(
    x: keras.KerasTensor,
    filters: int,
    *,
    kernel: int,
    stride: int = 1,
    activation: str | None = "relu",
    scale: str = "ones",
) -> keras.KerasTensor:
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal")(
        x
    )
    x = layers.BatchNormalization(momentum=0.95, gamma_initializer=scale)(x)
    return layers.Activation(activation)(x) if activation else x


def transfer(x: keras.KerasTensor, spec: NetworkSpec) -> keras.KerasTensor:
    """A pretrained backbone with a new head."""
    x = layers.GlobalAveragePooling2D()(BACKBONES[spec.backbone](x, spec.backbone))
    return layers.Dropout(spec.dropout)(x)


ARCHITECTURES: dict[str, Callable[[keras.KerasTensor, NetworkSpec], keras.KerasTensor]] = {
    "baseline_cnn": baseline_cnn,
    "compact": compact,
    "transfer": transfer,
}
