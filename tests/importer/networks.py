"""Makes networks of many kinds, as users have them, with the outputs of Keras for some pixels.

`write` makes a folder for each kind: the network, and `expected.npz` with the pixels (uint8, as the decoder returns
them) and the probabilities. `keras2.py` has the kinds of Keras 2. Both must be imported in a process of their own.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
#: Writes a network to the folder; returns what turns pixels into probabilities.
Kind = Callable[[Path], Callable[[Pixels], Any]]
KINDS: dict[str, Kind] = {}
#: Of most networks here.
SIDE = 32

CUSTOM_LAYER = """
import keras
@keras.saving.register_keras_serializable("pets")
class Gain(keras.layers.Layer):
    def __init__(self, gain=2.0, **options):
        super().__init__(**options)
        self.gain = gain
    def call(self, x):
        return self.gain * x
    def get_config(self):
        return super().get_config() | {"gain": self.gain}
"""


def kind(make: Kind) -> Kind:
    """Register a kind under the name of its function."""
    KINDS[make.__name__.replace("_", "-")] = make
    return make


def pixels(height: int = SIDE, width: int = SIDE, count: int = 6) -> Pixels:
    """Images with structure: noise of several grain sizes on colors."""
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (count, -(-height // 4), -(-width // 4), 3))
    fine = random.integers(0, 256, (count, height, width, 3))
    smooth = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
    color = random.integers(0, 256, (count, 1, 1, 3))
    noise = np.where(np.arange(count)[:, None, None, None] % 2, smooth, fine)
    return ((noise + 3 * color) // 4).astype(np.uint8)


def body(x: Any) -> Any:
    """A small network with the usual layers."""
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(6.0)(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.SeparableConv2D(12, 3, activation="swish")(x)
    x = layers.MaxPooling2D(2)(x)
    return layers.GlobalAveragePooling2D()(x)


def network(
    end: int, activation: str | None, scale: Any = None, shape: Any = (SIDE, SIDE, 3), gain: float = 6.0
) -> Any:
    """A small classifier."""
    inputs = keras.Input(shape)
    x = inputs if scale is None else scale(inputs)
    return stirred(
        keras.Model(inputs, layers.Dense(end, activation=activation, name="head")(body(x)), name="My_Net"), gain
    )


def stirred(model: Any, gain: float = 6.0) -> Any:
    """The model with random weights that differ from those of a new one, and outputs that depend on the image."""
    random = np.random.default_rng(2)
    weights = []
    for weight in model.weights:
        value = np.asarray(weight)
        if np.issubdtype(value.dtype, np.floating):
            spread = 0.5 / np.sqrt(max(1, np.prod(value.shape[:-1])))
            value = value + random.normal(0, spread, value.shape)
            if "variance" in weight.path:
                value = np.abs(value) + 0.5
        weights.append(value)
    kernels = [at for at, weight in enumerate(model.weights) if weight.path.endswith("kernel")]
    weights[kernels[-1]] = gain * weights[kernels[-1]]
    model.set_weights(weights)
    return model


def settled(model: Any, side: int) -> Any:
    """A deep model whose batch normalization fits images, so that its outputs depend on them."""
    images = pixels(side, side).astype(np.float32) / 127.5 - 1
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.3
    for _ in range(4):
        model(images, training=True)
    return model


def softmax(values: Any) -> Any:
    values = np.exp(values - values.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)


def one_unit(values: Any) -> Any:
    return np.concatenate([1 - values, values], axis=1)


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def predicting(model: Any, before: Any = lambda x: x, after: Any = lambda y: y) -> Any:
    return lambda images: after(np.asarray(model.predict(before(images.astype(np.float32)), verbose=0), np.float64))


@kind
def with_rescaling(folder: Path) -> Any:
    model = network(3, "softmax", layers.Rescaling(1 / 255))
    model.save(folder / "model.keras")
    return predicting(model)


@kind
def with_normalization(folder: Path) -> Any:
    model = network(3, "softmax", layers.Normalization(mean=[120, 110, 100], variance=[3000, 3100, 3200]))
    model.save(folder / "model.keras")
    return predicting(model)


@kind
def with_arithmetic(folder: Path) -> Any:
    model = network(3, "softmax", lambda x: x / 127.5 - 1.0)
    model.save(folder / "model.keras")
    return predicting(model)


@kind
def h5_of_one_sigmoid(folder: Path) -> Any:
    model = network(1, "sigmoid")
    model.save(folder / "model.h5")
    return predicting(model, lambda x: x / 255, one_unit)


@kind
def logits_by_loss(folder: Path) -> Any:
    model = network(3, None)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.save(folder / "model.keras")
    return predicting(model, lambda x: x / 127.5 - 1, softmax)


@kind
def logits_by_values(folder: Path) -> Any:
    model = network(3, None)
    model.get_layer("head").bias.assign([3.0, -2.0, 0.5])
    model.save(folder / "model.h5")
    return predicting(model, lambda x: x / 127.5 - 1, softmax)


@kind
def one_logit(folder: Path) -> Any:
    model = network(1, None)
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    model.save(folder / "model.keras")
    return predicting(model, lambda x: x / 255, lambda y: one_unit(sigmoid(y)))


@kind
def several_labels(folder: Path) -> Any:
    model = network(4, "sigmoid", layers.Rescaling(1 / 255))
    model.save(folder / "model.keras")
    return predicting(model)


@kind
def several_sigmoids(folder: Path) -> Any:
    model = network(3, "sigmoid", layers.Rescaling(1 / 255))
    model.save(folder / "model.keras")
    return predicting(model, after=lambda y: y / y.sum(axis=1, keepdims=True))


@kind
def two_heads(folder: Path) -> Any:
    inputs = keras.Input((SIDE, SIDE, 3))
    x = body(layers.Rescaling(1 / 255)(inputs))
    heads = {
        "animal": layers.Dense(3, activation="softmax", name="animal")(x),
        "color": layers.Dense(4, activation="softmax", name="color")(x),
    }
    model = stirred(keras.Model(inputs, heads))
    model.save(folder / "model.keras")
    return lambda images: model.predict(images.astype(np.float32), verbose=0)["animal"]


@kind
def any_size(folder: Path) -> Any:
    model = network(3, "softmax", layers.Rescaling(1 / 255), (None, None, 3))
    model.save(folder / "model.keras")
    return predicting(model)


@kind
def wide(folder: Path) -> Any:
    model = network(3, "softmax", layers.Rescaling(1 / 255), (24, 40, 3))
    model.save(folder / "model.keras")
    return predicting(model)


def grey(images: Any) -> Any:
    return images @ np.array([0.299, 0.587, 0.114])[:, None]


@kind
def grey_with_channel(folder: Path) -> Any:
    model = network(3, "softmax", layers.Rescaling(1 / 255), (SIDE, SIDE, 1))
    model.save(folder / "model.keras")
    return predicting(model, grey)


@kind
def grey_without_channel(folder: Path) -> Any:
    inputs = keras.Input((28, 28))
    x = layers.Dense(32, activation="relu")(layers.Flatten()(inputs))
    model = stirred(keras.Model(inputs, layers.Dense(10, activation="softmax")(x)), 1.0)
    model.save(folder / "model.keras")
    return predicting(model, lambda x: grey(x)[..., 0] / 255)


@kind
def channels_first(folder: Path) -> Any:
    """Keras cannot run it on a CPU. The same network with channels last has the same weights."""
    built = []
    for form, shape, axis in (("channels_first", (3, SIDE, SIDE), 1), ("channels_last", (SIDE, SIDE, 3), -1)):
        inputs = keras.Input(shape)
        x = layers.Conv2D(8, 3, padding="same", activation="relu", data_format=form)(inputs)
        x = layers.BatchNormalization(axis=axis)(x)
        x = layers.DepthwiseConv2D(3, strides=2, data_format=form)(x)
        x = layers.MaxPooling2D(2, data_format=form)(x)
        x = layers.AveragePooling2D(2, data_format=form)(x)
        x = layers.Flatten(data_format=form)(x)
        built.append(keras.Model(inputs, layers.Dense(3, activation="softmax")(x)))
    first, last = built
    last.set_weights(stirred(first).get_weights())
    first.save(folder / "model.keras")
    return predicting(last, lambda x: x / 255)


def saved_in_sixteen_bits(make: Callable[[], Any], set_policy: Callable[[str], None], path: Path) -> Any:
    """Save a network that computes in float16; its answers are those in float32."""
    set_policy("mixed_float16")
    try:
        small = make()
    finally:
        set_policy("float32")
    small.save(path)
    full = make()
    full.set_weights(small.get_weights())
    return predicting(full)


@kind
def sixteen_bits(folder: Path) -> Any:
    make = partial(network, 3, "softmax", layers.Rescaling(1 / 255))
    return saved_in_sixteen_bits(make, keras.config.set_dtype_policy, folder / "model.keras")


@kind
def augmenting(folder: Path) -> Any:
    steps = [layers.RandomFlip(), layers.RandomRotation(0.2), layers.RandomZoom(0.1), layers.Rescaling(1 / 255)]
    model = network(3, "softmax", keras.Sequential(steps))
    model.save(folder / "model.keras")
    return predicting(model)


@kind
def nested(folder: Path) -> Any:
    inner = keras.Input((SIDE, SIDE, 3))
    backbone = keras.Model(inner, body(inner), name="backbone")
    model = keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), layers.Rescaling(1 / 127.5, -1), backbone, layers.Dropout(0.2)]
    )
    model.add(layers.Dense(3, activation="softmax"))
    stirred(model).save(folder / "model.keras")
    return predicting(model)


@kind
def mobilenet(folder: Path) -> Any:
    model = settled(stirred(keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None, classes=5)), 64)
    model.save(folder / "model.h5")
    return predicting(model, lambda x: x / 127.5 - 1)


@kind
def mobilenet_v3(folder: Path) -> Any:
    options = {"alpha": 0.75, "minimalistic": True, "weights": None, "classes": 5}
    model = settled(stirred(keras.applications.MobileNetV3Small((64, 64, 3), **options)), 64)
    model.save(folder / "model.keras")
    return predicting(model)


@kind
def transformer(folder: Path) -> Any:
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(16, 8, strides=8)(layers.Rescaling(1 / 255)(inputs))
    x = layers.Reshape((-1, 16))(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 8)(layers.LayerNormalization()(x), x)])
    x = layers.GlobalAveragePooling1D()(ops.gelu(x))
    model = stirred(keras.Model(inputs, layers.Dense(3, activation="softmax")(x)))
    model.save(folder / "model.keras")
    return predicting(model)


@kind
def imagenet(folder: Path) -> Any:
    model = network(3, "softmax")
    model.save(folder / "model.keras")
    return predicting(model, lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])


@kind
def caffe(folder: Path) -> Any:
    model = network(3, "softmax", gain=2.0)
    model.save(folder / "model.h5")
    return predicting(model, lambda x: keras.applications.vgg16.preprocess_input(x.copy()) / 1.0)


@kind
def batch_normalization_first(folder: Path) -> Any:
    model = network(3, "softmax", layers.BatchNormalization())
    model.save(folder / "model.keras")
    return predicting(model, lambda x: x / 255)


@kind
def flat_output(folder: Path) -> Any:
    """Its output has the shape (1, 1, labels)."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Reshape((1, 1, -1))(body(layers.Rescaling(1 / 255)(inputs)))
    model = stirred(keras.Model(inputs, layers.Conv2D(3, 1, activation="softmax")(x)))
    model.save(folder / "model.keras")
    return predicting(model, after=lambda y: y.reshape(len(y), -1))


@kind
def own_layer(folder: Path) -> Any:
    (folder / "gain.py").write_text(CUSTOM_LAYER)
    scope: dict[str, Any] = {}
    exec(CUSTOM_LAYER, scope)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = scope["Gain"](1.5)(body(layers.Rescaling(1 / 255)(inputs)))
    model = stirred(keras.Model(inputs, layers.Dense(3, activation="softmax")(x)))
    model.save(folder / "model.keras")
    return predicting(model)


@kind
def own_function(folder: Path) -> Any:
    """A Lambda layer."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Lambda(lambda values: values / 255.0, name="shrink", output_shape=(SIDE, SIDE, 3))(inputs)
    model = stirred(keras.Model(inputs, layers.Dense(3, activation="softmax")(body(x))))
    model.save(folder / "model.keras")
    return predicting(model)


@kind
def saved_model(folder: Path) -> Any:
    model = network(3, "softmax", layers.Rescaling(1 / 255))
    model.export(folder / "model", verbose=False)
    return predicting(model)


@kind
def old_pipeline(folder: Path) -> Any:
    """The CNN of the old pipeline, smaller: pixels of 0..1 and one sigmoid for dog."""
    model = keras.Sequential([keras.Input((64, 64, 3))])
    for filters in (8, 16, 16):
        model.add(layers.Conv2D(filters, 3, activation="relu"))
        model.add(layers.MaxPooling2D(2))
    for layer in (layers.Flatten(), layers.Dense(32, activation="relu"), layers.Dropout(0.5)):
        model.add(layer)
    model.add(layers.Dense(1, activation="sigmoid"))
    stirred(model)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.save(folder / "model.h5")
    return predicting(model, lambda x: x / 255, one_unit)


SIZES = {"wide": (24, 40), "grey-without-channel": (28, 28), "old-pipeline": (64, 64)}
SIZES |= dict.fromkeys(("mobilenet", "mobilenet-v3"), (64, 64))


def write(kinds: dict[str, Kind], folder: Path, names: list[str]) -> None:
    """Write the named kinds."""
    for name in names:
        (folder / name).mkdir(parents=True)
        images = pixels(*SIZES.get(name, (SIDE, SIDE)))
        predict = kinds[name](folder / name)
        np.savez(folder / name / "expected.npz", pixels=images, probabilities=predict(images))
