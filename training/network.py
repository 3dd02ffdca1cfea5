"""The networks that can be trained, each taking RGB of 0..255 and giving probabilities."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
from keras import layers


@dataclass(frozen=True)
class NetworkSpec:
    """What a network is built from; saved beside its weights, so that it can be built again."""

    architecture: str
    height: int
    width: int
    #: Number of classes; two share one sigmoid unit, the probability of the second.
    classes: int = 2
    dropout: float = 0.5
    #: Start weights for `transfer`: "random", "imagenet" (downloads) or the path of a weights file.
    backbone_weights: str = "random"

    @property
    def output(self) -> str:
        """Name of the last layer's activation, as in a bundle's manifest."""
        return "sigmoid" if self.classes == 2 else "softmax"


class NetworkError(ValueError):
    """A network that cannot be built as the parameters want it; the text names the knob."""


def build_network(spec: NetworkSpec, *, dtype: str = "float32", any_size: bool = False) -> keras.Model:
    """Build an untrained network, its weights drawn from Keras's global seed.

    It takes uint8 or float RGB of (batch, height, width, 3), values 0..255, and gives float32 probabilities of
    (batch, 1) for two classes, else (batch, classes). `dtype` is a Keras dtype policy for all layers but the last;
    `any_size` leaves the images' size open, for networks that pool globally.

    Raises:
        NetworkError: the architecture is unknown, the input too small for it, or its start weights cannot be had.
    """
    if spec.architecture not in ARCHITECTURES:
        raise NetworkError(
            f"train.architecture: {spec.architecture!r} is unknown; choose one of {', '.join(ARCHITECTURES)}."
        )
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        size = (None, None) if any_size else (spec.height, spec.width)
        inputs = keras.Input((*size, 3), name="pixels")
        features = _features(layers.Rescaling(1 / 255, name="rescale")(inputs), spec)
        units = 1 if spec.output == "sigmoid" else spec.classes
        outputs = layers.Dense(units, activation=spec.output, dtype="float32", name="probability")(features)
        return keras.Model(inputs, outputs, name=spec.architecture)
    finally:
        keras.config.set_dtype_policy(before)


def take_weights(network: keras.Model, path: Path) -> None:
    """Give `network` the weights of the saved Keras model at `path`.

    Raises:
        NetworkError: there is no model that Keras can read, or its weights have other shapes.
    """
    try:
        network.set_weights(keras.saving.load_model(path, compile=False, safe_mode=True).get_weights())
    # Keras raises nearly anything on a file that it cannot read.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise NetworkError(
            f"train.start_weights: {str(path)!r} cannot be used ({reason}); give the `model.keras` of a bundle of the "
            "same architecture and classes, or leave it empty."
        ) from error


def _features(x: keras.KerasTensor, spec: NetworkSpec) -> keras.KerasTensor:
    try:
        return ARCHITECTURES[spec.architecture](x, spec)
    except NetworkError:
        raise
    except ValueError as error:
        raise NetworkError(
            f"input.height, input.width: {spec.height} x {spec.width} is too small for {spec.architecture}."
        ) from error


def _baseline_cnn(x: keras.KerasTensor, spec: NetworkSpec) -> keras.KerasTensor:
    """Give the network of the system that Pawqueue replaces, unchanged: the yardstick."""
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    return layers.Dropout(spec.dropout)(x)


#: Filters and blocks of each stage of `compact`; every stage halves the image's sides.
_COMPACT_STAGES = ((32, 1), (64, 2), (128, 3), (192, 2))


def _compact(x: keras.KerasTensor, spec: NetworkSpec) -> keras.KerasTensor:
    """Give a small residual network; on CPUs plain convolutions train no slower than separable ones of less skill."""
    x = _normed_conv(x, 24, kernel=3, stride=2)
    for filters, blocks in _COMPACT_STAGES:
        for index in range(blocks):
            x = _residual_block(x, filters, stride=2 if index == 0 else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dropout(spec.dropout)(x)


def _residual_block(x: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    """Two convolutions and a shortcut, which averages before it projects so that no pixel is skipped.

    The last scale starts at zero, so that the network starts as its shortcuts; without it learning hardly sets in.
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


def _transfer(x: keras.KerasTensor, spec: NetworkSpec) -> keras.KerasTensor:
    """Put a head on MobileNetV3-Small, whose own rescaling expects 0..255 back."""
    weights = None if spec.backbone_weights == "random" else spec.backbone_weights
    try:
        backbone = keras.applications.MobileNetV3Small(
            input_shape=(spec.height, spec.width, 3), include_top=False, weights=weights, pooling="avg"
        )
    # A failed download raises a bare Exception.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise NetworkError(
            f"train.backbone_weights: {spec.backbone_weights!r} cannot be used ({reason}); give a weights file, "
            '"random", or "imagenet" where there is internet access.'
        ) from error
    return layers.Dropout(spec.dropout)(backbone(layers.Rescaling(255.0, name="restore")(x)))


ARCHITECTURES: dict[str, Callable[[keras.KerasTensor, NetworkSpec], keras.KerasTensor]] = {
    "baseline_cnn": _baseline_cnn,
    "compact": _compact,
    "transfer": _transfer,
}
