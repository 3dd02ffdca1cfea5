"""Makes networks of Keras 2, with `tf-keras`. See `networks.py`."""

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

from tests.importer.networks import SIDE, SIZES, one_unit, pixels, predicting, saved_in_sixteen_bits, softmax

KINDS: dict[str, Any] = {}

CUSTOM_LAYER = """
import tf_keras
class Gain(tf_keras.layers.Layer):
    def call(self, x):
        return 1.5 * x
"""


def kind(make: Any) -> Any:
    KINDS["keras2-" + make.__name__.replace("_", "-")] = make
    return make


def stirred(model: Any) -> Any:
    random = np.random.default_rng(3)
    weights = []
    for weight in model.weights:
        value = weight.numpy()
        spread = 0.5 / np.sqrt(max(1, np.prod(value.shape[:-1])))
        value = value + random.normal(0, spread, value.shape)
        weights.append(np.abs(value) + 0.5 if "variance" in weight.name else value)
    kernels = [at for at, weight in enumerate(model.weights) if "kernel" in weight.name]
    weights[kernels[-1]] = 6 * weights[kernels[-1]]
    model.set_weights(weights)
    return model


def network(end: int, activation: str | None, scale: Any = None) -> Any:
    inputs = keras.Input((SIDE, SIDE, 3))
    x = inputs if scale is None else scale(inputs)
    x = layers.Conv2D(8, 3, strides=2)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(6.0)(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return stirred(keras.Model(inputs, layers.Dense(end, activation=activation)(x)))


def settled(model: Any) -> Any:
    """A deep model whose batch normalization fits images, so that its outputs depend on them."""
    images = pixels(64, 64).astype(np.float32) / 127.5 - 1
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.3
    for _ in range(4):
        model(images, training=True)
    return model


@kind
def mobilenet(folder: Path) -> Any:
    model = settled(stirred(keras.applications.MobileNet((64, 64, 3), alpha=0.25, weights=None, classes=5)))
    model.save(folder / "model.h5")
    return predicting(model, lambda x: x / 127.5 - 1)


@kind
def keras_file(folder: Path) -> Any:
    model = network(3, "softmax", layers.Rescaling(1 / 255))
    model.save(folder / "model.keras")
    return predicting(model)


@kind
def functions(folder: Path) -> Any:
    """With functions of TensorFlow as layers."""
    model = network(3, "softmax", lambda x: tf.math.divide(x, 127.5) - 1.0)
    model.save(folder / "model.h5")
    return predicting(model)


@kind
def sixteen_bits(folder: Path) -> Any:
    make = partial(network, 3, "softmax", layers.Rescaling(1 / 255))
    return saved_in_sixteen_bits(make, keras.mixed_precision.set_global_policy, folder / "model.h5")


@kind
def logits(folder: Path) -> Any:
    model = network(3, None)
    model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    model.save(folder / "model.h5")
    return predicting(model, lambda x: x / 255, softmax)


@kind
def saved_model(folder: Path) -> Any:
    model = network(1, "sigmoid", layers.Rescaling(1 / 255))
    model.save(folder / "model", save_format="tf")
    return predicting(model, after=one_unit)


@kind
def own_layer(folder: Path) -> Any:
    (folder / "gain.py").write_text(CUSTOM_LAYER)
    scope: dict[str, Any] = {}
    exec(CUSTOM_LAYER, scope)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(scope["Gain"]()(inputs)))
    model = stirred(keras.Model(inputs, layers.Dense(3, activation="softmax")(x)))
    model.save(folder / "model.h5")
    return predicting(model, lambda x: x / 255)


@kind
def own_function(folder: Path) -> Any:
    """A Lambda layer."""
    model = network(3, "softmax", layers.Lambda(lambda x: x / 255.0, name="shrink"))
    model.save(folder / "model.h5")
    return predicting(model)


def teachable_machine() -> Any:
    """As Teachable Machine builds it: a MobileNet inside two Sequential networks."""
    inner = keras.applications.MobileNet((64, 64, 3), alpha=0.25, include_top=False, weights=None)
    pooled = layers.GlobalAveragePooling2D()(inner.output)
    features = keras.Sequential([keras.Model(inner.input, pooled, name="model1")], name="sequential_1")
    head = keras.Sequential([layers.Dense(10, activation="relu", input_shape=(256,))], name="sequential_3")
    head.add(layers.Dense(3, activation="softmax", use_bias=False))
    return settled(stirred(keras.Sequential([features, head], name="sequential_4")))


@kind
def teachable_folder(folder: Path) -> Any:
    model = teachable_machine()
    (folder / "model").mkdir()
    model.save(folder / "model" / "keras_model.h5", include_optimizer=False)
    (folder / "model" / "labels.txt").write_text("0 Cat\n1 Dog\n2 Rabbit\n")
    return predicting(model, lambda x: x / 127.5 - 1)


@kind
def teachable_zip(folder: Path) -> Any:
    predict = teachable_folder(folder)
    shutil.make_archive(str(folder / "converted_keras"), "zip", folder / "model")
    return predict


SIZES |= dict.fromkeys((f"keras2-{name}" for name in ("mobilenet", "teachable-folder", "teachable-zip")), (64, 64))
