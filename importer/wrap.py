"""Puts layers around a network, so that it takes RGB pixels of 0..255 and returns probabilities."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray

from importer import graph
from importer.network import Form, Network
from importer.outputs import End
from importer.request import ImportFailedError
from importer.scale import Scale

#: Weights of red, green and blue in grey, as in Pillow's mode L.
_LUMA = (0.299, 0.587, 0.114)


def wrapped_model(network: Network, scale: Scale, end: End) -> Any:
    """The network in Keras 3, with its layers around it."""
    form = network.form
    pixels = keras.Input((form.height, form.width, 3), name="pixels")
    outputs = _finish(keras.tree.flatten(network.model(_prepare(pixels, form, scale)))[0], end)
    return keras.Model(pixels, outputs, name=network.model.name)


def wrapped_graph(network: Network, scale: Scale, end: End) -> Any:
    """The same as a graph, from the input `pixels` to the output `probabilities`."""
    form, call, dtype = network.form, graph.caller(network.graph_def), graph.input_type(network.graph_def)

    def complete(pixels: Any) -> Any:
        return _finish(call(tf.cast(_prepare(pixels, form, scale), dtype)), end)

    return graph.freeze(complete, (form.height, form.width, 3), output="probabilities")


def prepared(pixels: NDArray[np.uint8], form: Form, scale: Scale) -> NDArray[np.float32]:
    """What the network gets for uint8 RGB (images, height, width, 3), computed without Keras."""
    values = pixels.astype(np.float64)
    if form.channels == 1:
        values = values @ np.array(_LUMA)[:, None]
    if scale.bgr:
        values = values[..., ::-1]
    values = values * np.array(scale.factors) + np.array(scale.offsets)
    if form.layout == "CHW":
        values = values.transpose(0, 3, 1, 2)
    found: NDArray[np.float32] = values.reshape(len(values), *form.shape).astype(np.float32)
    return found


def finished(raw: NDArray[np.floating], end: End) -> NDArray[np.float64]:
    """The probabilities for raw outputs, computed without Keras."""
    values: NDArray[np.float64] = raw.astype(np.float64)
    if end == "softmax":
        values = np.exp(values - values.max(axis=1, keepdims=True))
    if end in ("softmax", "shares"):
        values = values / values.sum(axis=1, keepdims=True)
    if end == "sigmoid":
        values = 1 / (1 + np.exp(-values))
    return values


def check_scale(form: Form, scale: Scale) -> None:
    """Raise ImportFailedError if the scale is for colors and the network takes grey images."""
    if form.channels == 1 and (len(scale.factors) > 1 or scale.bgr):
        raise ImportFailedError(f"--scale {scale.name} is for three colors, but the network takes grey images.")


def _prepare(pixels: Any, form: Form, scale: Scale) -> Any:
    found = pixels
    if form.channels == 1:
        luma = layers.Conv2D(1, 1, use_bias=False, trainable=False, dtype="float32", name="grey")
        luma.build((None, form.height, form.width, 3))
        luma.set_weights([np.array(_LUMA, np.float32).reshape(1, 1, 3, 1)])
        found = luma(found)
    if scale.bgr:
        found = ops.flip(found, axis=-1)
    if not scale.is_none:
        one = len(scale.factors) == 1
        factors, offsets = (values[0] if one else list(values) for values in (scale.factors, scale.offsets))
        found = layers.Rescaling(factors, offsets, dtype="float32", name="scale")(found)
    if form.layout == "CHW":
        found = ops.transpose(found, (0, 3, 1, 2))
    if form.layout == "HW":
        found = ops.squeeze(found, axis=-1)
    return found


def _finish(raw: Any, end: End) -> Any:
    found = raw
    if len(raw.shape) > 2:
        found = ops.reshape(found, (-1, int(np.prod(raw.shape[1:]))))
    if end == "shares":
        found = ops.divide(found, ops.sum(found, axis=-1, keepdims=True))
    activation = end if end in ("softmax", "sigmoid") else "linear"
    return layers.Activation(activation, dtype="float32", name="probabilities")(found)
