"""Fits what a bundle needs to tell how familiar an image is: prototypes of the training images, and percentiles.

The features of the images of each class are whitened and grouped, and the center of each group is a prototype. An image
is familiar if its features point in nearly the same direction as a prototype.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from bundle.familiarity import Prototypes, pooled_features
from bundle.manifest import Familiarity
from training.data.augment import resized
from training.data.splits import Split
from training.errors import TrainingError
from training.files import FAMILIARITY_FILE

#: Prototypes of a class, and of all classes together.
_BY_CLASS_MAX, _PROTOTYPES_MAX = 100, 1000
#: Training images that are grouped, per prototype. More take longer and change little.
_IMAGES_PER_PROTOTYPE = 30
_ITERATIONS_MAX = 30
_BATCH = 64
#: Share of the mean variance that is added to the variance in every direction before whitening. Without it, directions
#: in which the training images do not differ would count more than all others.
_SHRINKAGE = 1.0


@dataclass(frozen=True)
class FamiliarityFit:
    """The fitted parts of a bundle."""

    prototypes: Prototypes
    scale: Familiarity
    #: Familiarity of each test image, which were not used for the fit.
    test: NDArray[np.float32]


def fit_familiarity(network: keras.Model, train: Split, validation: Split, test: Split, seed: int) -> FamiliarityFit:
    """Fit the prototypes to the training split and the percentiles to the validation split."""
    classes = len(train.labels)
    by_class = max(1, min(_BY_CLASS_MAX, _PROTOTYPES_MAX // classes))
    layer = feature_layer(network)
    backbone = keras.Model(network.input, pooled_features(keras, network, layer))
    grouped = _thinned(train, classes * by_class * _IMAGES_PER_PROTOTYPE)
    features = _features(backbone, grouped)
    whitening = _whitening(features)
    vectors = _prototypes(_unit(features @ whitening), grouped.targets, by_class, seed)
    validated, tested = (
        (_unit(_features(backbone, split) @ whitening) @ vectors.T).max(axis=1) for split in (validation, test)
    )
    scale = Familiarity(layer=layer, percentiles=np.percentile(validated, range(101)).tolist(), whitened=True)
    return FamiliarityFit(Prototypes(vectors, whitening), scale, scale.of(tested))


def feature_layer(network: keras.Model) -> str:
    """Return the layer whose output is compared: the input of the last convolution, or of the last residual block.

    Training for a few classes leaves little in the later layers of what tells other images apart.
    """
    places = {id(layer.output): place for place, layer in enumerate(network.layers)}
    blocks = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Add)]
    found = (blocks or network.layers)[-1].input
    first = min(places[id(tensor)] for tensor in (found if isinstance(found, list) else [found]))
    return str(network.layers[first].name)


def write_familiarity(fit: FamiliarityFit, folder: Path) -> None:
    """Write the fit to `FAMILIARITY_FILE` in `folder`."""
    arrays: dict[str, Any] = {
        "vectors": fit.prototypes.vectors,
        "whitening": fit.prototypes.whitening,
        "layer": fit.scale.layer,
        "percentiles": fit.scale.percentiles,
        "test": fit.test,
    }
    np.savez(folder / FAMILIARITY_FILE, **arrays)


def read_familiarity(folder: Path) -> FamiliarityFit:
    """Read the fit from `FAMILIARITY_FILE` in `folder`.

    Raises:
        TrainingError: the file is missing or damaged.
    """
    try:
        with np.load(folder / FAMILIARITY_FILE) as file:
            percentiles = file["percentiles"].tolist()
            scale = Familiarity(layer=str(file["layer"]), percentiles=percentiles, whitened=True)
            return FamiliarityFit(Prototypes(file["vectors"], file["whitening"]), scale, file["test"])
    except (OSError, KeyError, ValueError) as error:
        raise TrainingError(f"Cannot read {folder / FAMILIARITY_FILE} ({error}). Run `dvc repro evaluate`.") from error


def _thinned(split: Split, count: int) -> Split:
    """About `count` images, spread evenly over the split, which is sorted by class."""
    step = max(1, len(split.facts) // count)
    return replace(split, pixels=split.pixels[::step], facts=split.facts[::step])


def _whitening(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The symmetric matrix that gives features the same variance in all directions, up to shrinkage."""
    covariance = np.cov(features.T.astype(np.float64))
    values, vectors = np.linalg.eigh(covariance)
    mean = max(values.mean(), 1e-12)
    matrix: NDArray[np.float32] = (vectors / np.sqrt(values.clip(0) / mean + _SHRINKAGE) @ vectors.T).astype(np.float32)
    return matrix


def _prototypes(
    features: NDArray[np.float32], classes: NDArray[np.int64], by_class: int, seed: int
) -> NDArray[np.float32]:
    centers = []
    for index in np.unique(classes):
        members = features[classes == index]
        groups = KMeans(min(by_class, len(members)), n_init=1, max_iter=_ITERATIONS_MAX, random_state=seed).fit(members)
        centers.append(groups.cluster_centers_)
    return _unit(np.concatenate(centers))


def _features(backbone: keras.Model, split: Split) -> NDArray[np.float32]:
    _, height, width, _ = backbone.input_shape
    starts = range(0, len(split.facts), _BATCH)
    parts = [backbone.predict_on_batch(resized(split.pixels[at : at + _BATCH], height, width)) for at in starts]
    return np.concatenate(parts).astype(np.float32)


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-6)).astype(np.float32)
    return unit
