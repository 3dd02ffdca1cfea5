"""The networks that can be trained, each taking RGB of 0..255 and giving probabilities."""

from collections.abc import Callable
from dataclasses import dataclass

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


class UnknownArchitectureError(ValueError):
    """The architecture named in the parameters does not exist."""


def build_network(spec: NetworkSpec, *, dtype: str = "float32") -> keras.Model:
    """Build an untrained network, its weights drawn from Keras's global seed.

    It takes uint8 or float RGB of (batch, height, width, 3), values 0..255, and gives float32 probabilities of
    (batch, 1) for two classes, else (batch, classes). `dtype` is a Keras dtype policy for all layers but the last.

    Raises:
        UnknownArchitectureError: `spec.architecture` is none of `ARCHITECTURES`.
    """
    if spec.architecture not in ARCHITECTURES:
        raise UnknownArchitectureError(
            f"train.architecture: {spec.architecture!r} is unknown; choose one of {', '.join(ARCHITECTURES)}."
        )
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        inputs = keras.Input((spec.height, spec.width, 3), name="pixels")
        features = ARCHITECTURES[spec.architecture](layers.Rescaling(1 / 255, name="rescale")(inputs), spec)
        units = 1 if spec.output == "sigmoid" else spec.classes
        outputs = layers.Dense(units, activation=spec.output, dtype="float32", name="probability")(features)
        return keras.Model(inputs, outputs, name=spec.architecture)
    finally:
        keras.config.set_dtype_policy(before)


def _baseline_cnn(x: keras.KerasTensor, spec: NetworkSpec) -> keras.KerasTensor:
    """Give the network of the system that Pawqueue replaces, unchanged: the yardstick."""
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    return layers.Dropout(spec.dropout)(x)


#: Filters, blocks and stride of each stage of `compact`.
_COMPACT_STAGES = ((48, 1, 2), (96, 2, 2), (192, 3, 2), (320, 2, 2))


def _compact(x: keras.KerasTensor, spec: NetworkSpec) -> keras.KerasTensor:
    """Residual separable convolutions over a strided stem; small enough to ship, cheaper than the baseline."""
    x = _normed_conv(x, 32, kernel=3, stride=2)
    for filters, blocks, stride in _COMPACT_STAGES:
        for index in range(blocks):
            x = _separable_block(x, filters, stride if index == 0 else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dropout(spec.dropout)(x)


def _separable_block(x: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    """Two depthwise-separable convolutions and a shortcut."""
    kept = x
    if stride > 1 or x.shape[-1] != filters:
        kept = _normed_conv(x, filters, kernel=1, stride=stride, activation=None)
    x = _separable(x, filters, stride, activation="relu")
    x = _separable(x, filters, 1, activation=None)
    return layers.ReLU()(layers.Add()([x, kept]))


def _separable(x: keras.KerasTensor, filters: int, stride: int, activation: str | None) -> keras.KerasTensor:
    x = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(x)
    return _normed_conv(x, filters, kernel=1, activation=activation)


def _normed_conv(
    x: keras.KerasTensor, filters: int, kernel: int, stride: int = 1, activation: str | None = "relu"
) -> keras.KerasTensor:
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.95)(x)
    return layers.Activation(activation)(x) if activation else x


def _transfer(x: keras.KerasTensor, spec: NetworkSpec) -> keras.KerasTensor:
    """Put a head on MobileNetV3-Small, whose own rescaling expects 0..255 back."""
    weights = None if spec.backbone_weights == "random" else spec.backbone_weights
    backbone = keras.applications.MobileNetV3Small(
        input_shape=(spec.height, spec.width, 3), include_top=False, weights=weights, pooling="avg"
    )
    return layers.Dropout(spec.dropout)(backbone(layers.Rescaling(255.0, name="restore")(x)))


ARCHITECTURES: dict[str, Callable[[keras.KerasTensor, NetworkSpec], keras.KerasTensor]] = {
    "baseline_cnn": _baseline_cnn,
    "compact": _compact,
    "transfer": _transfer,
}
