"""How familiar an image is to a model: the similarity of its features to those of the training images.

A bundle may contain prototypes: the centers of groups of training images, as feature vectors. The worker computes the
cosine similarity of each image to the nearest prototype in the same call as the prediction, and turns it into the share
of the validation images that are less similar.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: File of a bundle that holds the prototypes: float32 (prototypes, features), each of length 1.
PROTOTYPES_FILE = "prototypes.npy"
#: Code of the warning about an unfamiliar image; `contract/job.py` has its text.
UNFAMILIAR_IMAGE = "unfamiliar_image"
#: Images with a lower familiarity are unfamiliar. 1 % of images like those in training are, too.
UNFAMILIAR_BELOW = 0.01


def read_prototypes(folder: Path) -> NDArray[np.float32]:
    """The prototypes of a bundle that has them."""
    prototypes: NDArray[np.float32] = np.load(folder / PROTOTYPES_FILE, allow_pickle=False)
    return prototypes


def with_similarity(keras: Any, network: Any, layer: str, prototypes: NDArray[np.float32]) -> Any:
    """The network with one more output column: the cosine similarity of its features to the nearest prototype.

    It is computed in float32. `layer` and `keras`, the module, are those of `pooled_features`.
    """
    layers = keras.layers
    unit = layers.UnitNormalization(dtype="float32", name="unit_features")(pooled_features(keras, network, layer))
    cosines = layers.Dense(len(prototypes), use_bias=False, dtype="float32", name="prototypes")
    column = layers.Reshape((-1, 1), dtype="float32", name="cosines")(cosines(unit))
    cosines.set_weights([prototypes.T])
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
