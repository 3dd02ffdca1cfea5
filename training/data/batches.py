"""Batches of augmented images. They depend only on the seed and the epoch, not on the backend or the threads."""

import os
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.data.augment import at_strength, augment, resized
from training.data.splits import Split
from training.data.teacher import Teacher
from training.params import Params

_WORKERS = os.cpu_count() or 2


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """The batches of one epoch: shuffled, augmented and optionally mixed. An incomplete last batch is left out.

    A batch holds uint8 or float32 pixels (batch, height, width, 3) and float32 targets: (batch, 1) for two classes,
    otherwise (batch, classes). With a teacher, the targets are partly its probabilities. It sees the same augmented
    images at its own size; they are drawn at the larger of the two sizes.
    """

    def __init__(
        self, split: Split, params: Params, epoch: int, size: tuple[int, int], teacher: Teacher | None = None
    ) -> None:
        super().__init__(workers=_WORKERS, use_multiprocessing=False, max_queue_size=8)
        self._params, self._epoch, self._size = params, epoch, size
        self.split, self.teacher = split, teacher
        self._drawn_size = (max(size[0], teacher.size[0]), max(size[1], teacher.size[1])) if teacher else size
        self._augmentation = at_strength(params.augment, augmentation_strength(epoch, params))
        self._targets = _as_targets(split.targets, len(split.labels))
        self._order = np.random.default_rng((params.train.seed, epoch)).permutation(len(split.facts))

    def __len__(self) -> int:
        return steps_per_epoch(self.split, self._params)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        size = self._params.train.batch_size
        rows = self._order[index * size : (index + 1) * size]
        pixels = np.stack([self._augmented(int(row)) for row in rows])
        return self._mixed(resized(pixels, *self._size), self._distilled(pixels, self._targets[rows]), index)

    def _augmented(self, row: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng((self._params.train.seed, self._epoch, row))
        return augment(self.split.pixels[row], *self._drawn_size, self._augmentation, rng)

    def _distilled(self, pixels: NDArray[np.uint8], targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mix the teacher's probabilities into the targets. The loss is linear in them, so this mixes two losses."""
        if not self.teacher:
            return targets
        share = np.float32(self._params.train.distill)
        return share * self.teacher.targets(pixels) + (1 - share) * targets

    def _mixed(
        self, pixels: NDArray[np.uint8], targets: NDArray[np.float32], index: int
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Blend each image and its target with its neighbor's (mixup)."""
        if not self._params.augment.mixup:
            return pixels, targets
        rng = np.random.default_rng((self._params.train.seed, self._epoch, index, 1))
        share = rng.beta(self._params.augment.mixup, self._params.augment.mixup, len(pixels)).astype(np.float32)
        by_image, by_target = share[:, None, None, None], share[:, None]
        blended = by_image * pixels + (1 - by_image) * np.roll(pixels, 1, axis=0)
        return blended, by_target * targets + (1 - by_target) * np.roll(targets, 1, axis=0)


def steps_per_epoch(split: Split, params: Params) -> int:
    """Return the number of batches in an epoch."""
    return max(1, len(split.facts) // params.train.batch_size)


def augmentation_strength(epoch: int, params: Params) -> float:
    """Return the strength of augmentation in an epoch. It rises from 0.25 to 1 at `augment.full_after`."""
    ramp = params.augment.full_after * params.train.epochs
    return 1.0 if epoch >= ramp else 0.25 + 0.75 * epoch / ramp


def as_dataset(batches: Batches) -> Any:
    """Wrap `batches` in a `tf.data` pipeline on TensorFlow; return them unchanged on other backends.

    With a teacher they are also returned unchanged: a call of its network from within the pipeline would wait for
    threads that the pipeline itself occupies.
    """
    if keras.backend.backend() != "tensorflow" or batches.teacher:
        return batches
    import tensorflow as tf  # noqa: PLC0415 (not installed with other backends)

    pixels, targets = batches[0]

    def load(index: Any) -> Any:
        drawn = tf.numpy_function(lambda i: batches[int(i)], [index], (pixels.dtype, targets.dtype), stateful=False)
        drawn[0].set_shape(pixels.shape)
        drawn[1].set_shape(targets.shape)
        return tuple(drawn)

    indices = tf.data.Dataset.range(len(batches))
    return indices.map(load, num_parallel_calls=_WORKERS, deterministic=True).prefetch(4)


def _as_targets(classes: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Turn class indices (n,) into training targets: (n, 1) for two classes, otherwise one-hot (n, count)."""
    if count == 2:
        return classes[:, None].astype(np.float32)
    return np.eye(count, dtype=np.float32)[classes]
