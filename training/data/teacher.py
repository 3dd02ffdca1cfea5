"""The teacher of a distillation: a bundle whose probabilities become training targets.

Only `load_teacher` imports Keras, so that `make train` can check the bundle before it starts.
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bundle.manifest import MANIFEST_FILE, MODEL_FILE, BundleError, Manifest, read_manifest
from training.data.augment import resized
from training.errors import TrainingError

if TYPE_CHECKING:
    import keras


class Teacher:
    """The network of a bundle. Several threads can call it."""

    def __init__(self, network: "keras.Model", manifest: Manifest) -> None:
        self._network, self._manifest = network, manifest
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        """Version of the bundle."""
        return self._manifest.version

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input, in pixels."""
        return self._manifest.input.height, self._manifest.input.width

    def targets(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities for uint8 images (n, height, width, 3) of any size.

        They have the shape of training targets: (n, 1) for two classes, otherwise (n, classes).
        """
        images = resized(pixels, *self.size)
        with self._lock:  # on some backends, `predict_on_batch` changes the network while it runs
            outputs: NDArray[np.float32] = self._network.predict_on_batch(images)
        return outputs[:, -1:] if len(self._manifest.labels) == 2 else outputs


def read_teacher(path: str) -> tuple[Path, Manifest]:
    """Return the folder and the manifest of the bundle at `path`, which is its folder or its `model.keras`.

    Raises:
        TrainingError: there is no bundle, or it is damaged.
    """
    folder = Path(path).parent if Path(path).name == MODEL_FILE else Path(path)
    if not (folder / MANIFEST_FILE).is_file():
        raise TrainingError(f"train.teacher: there is no bundle at {path}. Set it to the folder of a bundle, or to ''.")
    try:
        return folder, read_manifest(folder)
    except BundleError as error:
        raise TrainingError(f"train.teacher: {error}") from error


def load_teacher(path: str, labels: list[str], *, jit_compile: str | bool) -> Teacher:
    """Load the bundle at `path`.

    Raises:
        TrainingError: there is no bundle, it is damaged, or its labels are not `labels`.
    """
    import keras  # noqa: PLC0415 (see the module docstring)

    folder, manifest = read_teacher(path)
    if manifest.labels != labels:
        raise TrainingError(
            f"train.teacher: {path} has the labels {', '.join(manifest.labels)}, but the data has {', '.join(labels)}. "
            "Use a bundle with the labels of the data."
        )
    try:
        network = keras.saving.load_model(folder / MODEL_FILE, compile=False)
    except Exception as error:  # Keras raises exceptions of many types for unreadable files
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"train.teacher: cannot load {folder / MODEL_FILE} ({reason}).") from error
    network.compile(jit_compile=jit_compile)
    return Teacher(network, manifest)
