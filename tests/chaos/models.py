"""The models of a chaos run: they answer differently, so that an answer of the wrong one is noticed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.manifest import MANIFEST_FILE
from tests.support.brightness import second_probability
from tests.support.bundles import add_version

#: The models that clients name, with their versions; the default model is not named.
NAMED = {"dim": ("2",), "faint": ("3", "5")}
#: The model whose live version and canary change during the run.
CHANGING = "faint"
MODELS = ("", *NAMED)
#: Images are JPEG files.
_TOLERANCE = 0.03


def add_models(store: Path, *, light: bool) -> None:
    """Add the named models to a store."""
    for name, versions in NAMED.items():
        for version in versions:
            if light:
                add_version(store, name, version, _labels(name))
            else:
                _write(store, name, version)


def is_answer_of(model: str, brightness: float, result: Mapping[str, Any]) -> bool:
    """Whether a prediction for an image of this brightness, 0..1, was made by a model."""
    probabilities = result["prediction"]["probabilities"]
    if model not in NAMED:
        return result["model"]["name"] not in NAMED and not set(probabilities) & {*_labels("dim"), *_labels("faint")}
    version = result["model"]["version"]
    if result["model"]["name"] != model or version not in NAMED[model]:
        return False
    expected = second_probability(version, brightness)
    return abs(probabilities.get(_labels(model)[1], -1) - expected) < _TOLERANCE


def _labels(name: str) -> list[str]:
    return [f"not {name}", name]


def _write(store: Path, name: str, version: str) -> None:
    """A network of Keras that answers like `second_probability`."""
    import keras
    import numpy as np

    from training.release.bundling import BundleFacts, write_bundle

    inputs = keras.Input((32, 32, 3))
    means = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    network = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(means))
    network.set_weights([np.full((3, 1), 4.0), np.array([-1.2 * int(version)])])
    hidden, target = store / name / f".{version}", store / name / version
    manifest = write_bundle(network, BundleFacts(name, _labels(name)), hidden)
    (hidden / MANIFEST_FILE).write_text(manifest.model_copy(update={"version": version}).to_json())
    hidden.rename(target)
