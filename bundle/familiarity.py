"""How familiar an image is to a model: the similarity of its features to those of the training images.

A bundle may contain prototypes: the centers of groups of training images, as feature vectors. The worker computes the
cosine similarity of each image to the nearest prototype in the same call as the prediction, and turns it into the share
of the validation images that are less similar.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: File of a bundle that holds the prototypes: float32 (prototypes, features), each of length 1.
PROTOTYPES_FILE = "prototypes.npy"
#: File of a bundle that holds the whitening matrix: float32 (features, features).
WHITENING_FILE = "whitening.npy"
#: Code of the warning about an unfamiliar image; `contract/job.py` has its text.
UNFAMILIAR_IMAGE = "unfamiliar_image"
#: Images with a lower familiarity are unfamiliar. 1 % of images like those in training are, too.
UNFAMILIAR_BELOW = 0.01


@dataclass(frozen=True)
class Prototypes:
    """What the features of an image are compared with."""

    #: float32 (prototypes, features), each of length 1.
    vectors: NDArray[np.float32]
    #: float32 (features, features), symmetric: the features are multiplied with it before they are compared, so that
    #: directions in which the training images hardly differ count as much as others. None in bundles that do not
    #: contain it.
    whitening: NDArray[np.float32] | None = None


def read_prototypes(folder: Path, *, whitened: bool) -> Prototypes:
    """The prototypes of a bundle that has them, and its whitening matrix if its manifest says that it has one."""
    whitening = np.load(folder / WHITENING_FILE, allow_pickle=False) if whitened else None
    return Prototypes(np.load(folder / PROTOTYPES_FILE, allow_pickle=False), whitening)


def write_prototypes(prototypes: Prototypes, folder: Path) -> None:
    """Write the files that `read_prototypes` reads."""
    np.save(folder / PROTOTYPES_FILE, prototypes.vectors)
    if prototypes.whitening is not None:
        np.save(folder / WHITENING_FILE, prototypes.whitening)


def with_similarity(keras: Any, network: Any, layer: str, prototypes: Prototypes) -> Any:
    """The network with one more output column: the cosine similarity of its features to the nearest prototype.

    It is computed in float32. `layer` and `keras`, the module, are those of `pooled_features`.
    """
    layers = keras.layers
    features = pooled_features(keras, network, layer)
    if prototypes.whitening is not None:
        whitened = layers.Dense(len(prototypes.whitening), use_bias=False, dtype="float32", name="whitened")
        features = whitened(features)
        whitened.set_weights([prototypes.whitening])
    unit = layers.UnitNormalization(dtype="float32", name="unit_features")(features)
    cosines = layers.Dense(len(prototypes.vectors), use_bias=False, dtype="float32", name="prototypes")
    column = layers.Reshape((-1, 1), dtype="float32", name="cosines")(cosines(unit))
    cosines.set_weights([prototypes.vectors.T])
    nearest = layers.GlobalMaxPooling1D(dtype="float32", name="similarity")(column)
    outputs = layers.Concatenate(dtype="float32", name="outputs")([network.output, nearest])
    return keras.Model(network.input, outputs, name=network.name)


def pooled_features(keras: Any, network: Any, layer: str) -> Any:
    """The symbolic output of a layer, averaged over the image: (batch, features).

    `keras` is the module, which this folder must not import.
    """
    output = network.get_layer(layer).output
    pool = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pooled_features")
    return pool(output) if len(output.shape) == 4 else output
