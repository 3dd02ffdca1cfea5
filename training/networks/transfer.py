"""The pretrained backbones as Keras networks: build one, load its weights, and fold its batch normalization."""

import hashlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.errors import BackboneError
from training.networks.backbones import (
    EFFICIENTNETS,
    HEAD_FILTERS,
    IMAGENET,
    STEM_FILTERS,
    Tensors,
    read_imagenet_weights,
)

#: Epsilon of the batch normalization in EfficientNet-Lite.
_EPSILON = 1e-3
_NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


class FrozenStatistics(layers.BatchNormalization):  # type: ignore[misc]  # Keras is untyped
    """Batch normalization that also uses the statistics of the pretraining while its scale and offset are trained.

    Calling a layer with `training=False` has no effect inside a model, because `fit` overrides it.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ARG002, FBT001
        return super().call(inputs, training=False, mask=mask)


def efficientnet_lite(x: keras.KerasTensor, backbone: str) -> keras.KerasTensor:
    """EfficientNet-Lite for pixels of 0..255. Its layers have the names of the weights file, without underscores."""
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescale")(x)
    x = _conv(x, STEM_FILTERS, "_conv_stem", "_bn0", kernel=3, stride=2)
    for block in EFFICIENTNETS[backbone].blocks():
        kept, name = x, block.name
        if block.expansion > 1:
            x = _conv(x, block.filters_in * block.expansion, f"{name}._expand_conv", f"{name}._bn0")
        x = _conv(x, None, f"{name}._depthwise_conv", f"{name}._bn1", block.kernel, block.stride)
        x = _conv(x, block.filters_out, f"{name}._project_conv", f"{name}._bn2", activates=False)
        if block.stride == 1 and block.filters_in == block.filters_out:
            x = layers.Add(name=_layer_name(f"{name}._add"))([x, kept])
    return _conv(x, HEAD_FILTERS, "_conv_head", "_bn1")


def _conv(
    x: keras.KerasTensor,
    filters: int | None,
    name: str,
    norm: str,
    kernel: int = 1,
    stride: int = 1,
    *,
    activates: bool = True,
) -> keras.KerasTensor:
    """A convolution, of each channel alone if `filters` is None, with batch normalization."""
    options = {"strides": stride, "padding": "same", "use_bias": False, "name": _layer_name(name)}
    convolve = layers.Conv2D(filters, kernel, **options) if filters else layers.DepthwiseConv2D(kernel, **options)
    x = FrozenStatistics(epsilon=_EPSILON, name=_layer_name(norm))(convolve(x))
    return layers.ReLU(6, name=f"{_layer_name(name)}.relu6")(x) if activates else x


def _layer_name(tensor: str) -> str:
    return ".".join(part.removeprefix("_") for part in tensor.split("."))


def mobilenet_v3_small(x: keras.KerasTensor, backbone: str) -> keras.KerasTensor:  # noqa: ARG001 (one of its kind)
    """Keras's MobileNetV3-Small for pixels of 0..255."""

    def clone(layer: keras.Layer) -> keras.Layer:
        kind = FrozenStatistics if isinstance(layer, layers.BatchNormalization) else type(layer)
        return kind.from_config(layer.get_config())

    network = keras.applications.MobileNetV3Small(input_shape=x.shape[1:], include_top=False, weights=None)
    return keras.models.clone_model(network, input_tensors=x, clone_function=clone).output


#: Each maps pixels of 0..255 (batch, height, width, 3) and its own name to features (batch, h, w, filters).
BACKBONES: dict[str, Callable[[keras.KerasTensor, str], keras.KerasTensor]] = {
    **dict.fromkeys(EFFICIENTNETS, efficientnet_lite),
    "mobilenet_v3_small": mobilenet_v3_small,
}


def load_backbone(network: keras.Model, backbone: str, weights: str) -> str:
    """Set the pretrained weights of a network that contains the backbone; return their name, which contains a hash.

    `weights` is `imagenet`, or the path of a file: of PyTorch for EfficientNet-Lite, of Keras for MobileNetV3.

    Raises:
        BackboneError: the weights cannot be read or do not fit.
    """
    digest = hashlib.sha256()
    read = _efficientnet_weights if backbone in EFFICIENTNETS else _mobilenet_weights
    for name, arrays in read(backbone, weights).items():
        network.get_layer(name).set_weights(arrays)
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
    return f"{backbone}-{digest.hexdigest()[:8]}"


def _efficientnet_weights(backbone: str, weights: str) -> dict[str, list[NDArray[Any]]]:
    """Read the weights by Keras layer, in Keras's order of dimensions. The classifier is left out."""
    tensors = read_imagenet_weights(backbone, weights)
    found: dict[str, list[NDArray[Any]]] = {}
    for tensor, values in tensors.items():
        layer, _, kind = tensor.rpartition(".")
        if values.ndim == 4:  # (filters, inputs, height, width); of a depthwise convolution (channels, 1, ...)
            order = (2, 3, 0, 1) if layer.endswith("_depthwise_conv") else (2, 3, 1, 0)
            found[_layer_name(layer)] = [values.transpose(order)]
        elif kind == "running_mean":
            found[_layer_name(layer)] = [tensors[f"{layer}.{name}"] for name in _NORM_TENSORS]
    return found


def _mobilenet_weights(backbone: str, weights: str) -> dict[str, list[NDArray[Any]]]:
    try:
        network = keras.applications.MobileNetV3Small(include_top=False, weights=weights)
    except Exception as error:  # a failed download raises a bare Exception
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(
            f"train.backbone_weights: cannot load {weights!r} ({reason}). Use a file with the weights of {backbone}, "
            f"random, or {IMAGENET} if you have internet access."
        ) from error
    return {layer.name: layer.get_weights() for layer in network.layers if layer.weights}


def classifier_weights(backbone: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """ImageNet's classifier for the pooled features of an EfficientNet-Lite: weights (1280, 1000), biases (1000,)."""
    tensors: Tensors = read_imagenet_weights(backbone)
    return tensors["_fc.weight"].T, tensors["_fc.bias"]


def fold_batch_normalization(network: keras.Model) -> keras.Model:
    """Return a network with the same outputs in which each normalization is part of the convolution before it.

    It has fewer weights and takes less time. Its normalization cannot be trained any more.
    """
    norms = _norms(network)

    def clone(layer: keras.Layer) -> keras.Layer:
        change = {"use_bias": True} if layer.name in norms else {}
        return type(layer).from_config(layer.get_config() | change)

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return args[0] if isinstance(layer, layers.BatchNormalization) else layer(*args, **kwargs)

    pixels = keras.Input(network.input_shape[1:], name=network.input.name)
    folded = keras.models.clone_model(network, pixels, clone_function=clone, call_function=call)
    for layer in folded.layers:
        if layer.weights:
            source = network.get_layer(layer.name)
            layer.set_weights(_folded(source, norms[layer.name]) if layer.name in norms else source.get_weights())
    return folded


def unfold_batch_normalization(network: keras.Model, folded: keras.Model) -> None:
    """Give `network` the outputs of `folded`, a network of the same layers without batch normalization.

    The normalization keeps its statistics and scales; the convolutions and offsets are computed from them. The result
    can be trained like the network that was folded.
    """
    norms = _norms(network)
    for layer in folded.layers:
        if layer.weights:
            target, norm = network.get_layer(layer.name), norms.get(layer.name)
            if norm is None:
                target.set_weights(layer.get_weights())
                continue
            kernel, bias = layer.get_weights()
            gamma, _, mean, variance = norm.get_weights()
            scale = gamma / np.sqrt(variance + norm.epsilon)
            target.set_weights([kernel / _by_channel(target, scale)])
            norm.set_weights([gamma, bias + mean * scale, mean, variance])


def _norms(network: keras.Model) -> dict[str, keras.Layer]:
    """Return the batch normalization after each convolution, by the convolution's name."""
    producers = {id(layer.output): layer for layer in network.layers}
    found = (layer for layer in network.layers if isinstance(layer, layers.BatchNormalization))
    return {producers[id(layer.input)].name: layer for layer in found}


def _folded(convolution: keras.Layer, norm: keras.Layer) -> list[NDArray[Any]]:
    """Return the kernel and bias of a convolution that includes the normalization after it."""
    kernel, *bias = convolution.get_weights()
    gamma, beta, mean, variance = norm.get_weights()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return [kernel * _by_channel(convolution, scale), ((bias[0] if bias else 0) - mean) * scale + beta]


def _by_channel(convolution: keras.Layer, scale: NDArray[Any]) -> NDArray[Any]:
    """Give one factor per output channel the shape of the convolution's kernel."""
    return scale[:, None] if isinstance(convolution, layers.DepthwiseConv2D) else scale
