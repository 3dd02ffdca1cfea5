"""Decide which images are kept and which split each of them goes to, before anything is stored.

Broken images, tiny images and byte-identical copies are dropped. Near-duplicates, found by perceptual hash, share a
split, so no test image has a near-duplicate among the training images.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bundle.decode import UndecodableImageError, decode
from training.data.sources import LabeledFile
from training.data.splits import SPLITS
from training.errors import TrainingError
from training.params import PrepareParams

#: Side in pixels at which images are decoded to be hashed.
HASHED_SIDE = 64
_CHUNK = 256
#: A perceptual hash is taken from the lowest 8 x 8 frequencies of a 32 x 32 image.
_DCT_SIDE, _DCT_KEPT = 32, 8
_HASH_CHUNK = 2048
#: Classes with fewer images are rejected.
MIN_IMAGES = 10

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class SurveyedImage:
    """Facts about one image, and either why it is dropped or its group and split."""

    name: str
    label: str
    sha256: str
    size_bytes: int
    width: int = 0
    height: int = 0
    perceptual_hash: int = 0
    #: Why the image is dropped; empty if it is kept.
    dropped: str = ""
    #: Name of its group of near-duplicates: the lowest checksum in it.
    group: str = ""
    split: str = ""


def survey(files: Iterable[LabeledFile], params: PrepareParams) -> list[SurveyedImage]:
    """Return one entry per image, with the reason why it is dropped or the split it belongs to.

    Raises:
        TrainingError: fewer than two classes remain, or a class is too small to be split.
    """
    images = list(map_in_threads(lambda file: _inspect(file, params.min_side_px), files))
    images = _drop_surplus(_drop_copies(images), params.max_per_class)
    images = _group(images, params.near_duplicate_bits)
    splits = {image.group: _split_of(image.group, params) for image in images if not image.dropped}
    _fill_empty_splits(splits, images)
    images = [image if image.dropped else replace(image, split=splits[image.group]) for image in images]
    _check_classes(images)
    return images


def map_in_threads(function: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """Yield `function(item)` in order, computed in one thread per core, with at most one chunk of items in memory."""
    rest = iter(items)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the GIL
        while chunk := list(islice(rest, _CHUNK)):
            yield from pool.map(function, chunk)


def _inspect(file: LabeledFile, min_side_px: int) -> SurveyedImage:
    found = SurveyedImage(file.name, file.label, hashlib.sha256(file.data).hexdigest(), len(file.data))
    try:
        image = decode(file.data, HASHED_SIDE, HASHED_SIDE)
    except UndecodableImageError as error:
        return replace(found, dropped=f"broken: {error}")
    found = replace(found, width=image.width, height=image.height, perceptual_hash=perceptual_hash(image.pixels))
    if min(image.width, image.height) < min_side_px:
        return replace(found, dropped=f"tiny: {image.width} x {image.height} px")
    return found


def _drop_copies(images: list[SurveyedImage]) -> list[SurveyedImage]:
    """Keep the first of several byte-identical images, or none of them if their labels differ."""
    labels: dict[str, set[str]] = {}
    for image in images:
        labels.setdefault(image.sha256, set()).add(image.label)
    first: dict[str, str] = {}
    checked = []
    for image in images:
        reason = image.dropped
        if not reason and len(labels[image.sha256]) > 1:
            reason = f"copies labeled {' and '.join(sorted(labels[image.sha256]))}"
        elif not reason and first.setdefault(image.sha256, image.name) != image.name:
            reason = f"copy of {first[image.sha256]}"
        checked.append(replace(image, dropped=reason))
    return checked


def _drop_surplus(images: list[SurveyedImage], max_per_class: int) -> list[SurveyedImage]:
    """Keep at most `max_per_class` images per class, in the order of their checksums; 0 keeps all."""
    if not max_per_class:
        return images
    taken: Counter[str] = Counter()
    surplus = set()
    for image in _kept(images):
        taken[image.label] += 1
        if taken[image.label] > max_per_class:
            surplus.add(image.name)
    reason = "surplus: prepare.max_per_class"
    return [replace(image, dropped=reason) if image.name in surplus else image for image in images]


def _group(images: list[SurveyedImage], max_bits: int) -> list[SurveyedImage]:
    """Name each group of near-duplicates by the lowest checksum in it."""
    kept = _kept(images)
    hashes = np.array([image.perceptual_hash for image in kept], dtype=np.uint64)
    firsts = group_near_duplicates(hashes, max_bits)
    groups = {image.name: kept[int(first)].sha256 for image, first in zip(kept, firsts, strict=True)}
    return [replace(image, group=groups.get(image.name, "")) for image in images]


def _kept(images: list[SurveyedImage]) -> list[SurveyedImage]:
    return sorted((image for image in images if not image.dropped), key=lambda image: image.sha256)


def _split_of(group: str, params: PrepareParams) -> str:
    """Choose the split by a hash of the seed and the group, so that adding images does not move others."""
    digest = hashlib.sha256(f"{params.seed}:{group}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < params.test:
        return "test"
    return "validation" if share < params.test + params.validation else "train"


def _fill_empty_splits(splits: dict[str, str], images: list[SurveyedImage]) -> None:
    """Move one group of training images to each split in which its class has no image, as happens in small classes."""
    groups: dict[str, dict[str, None]] = {}
    for image in _kept(images):
        groups.setdefault(image.label, {})[image.group] = None
    for of_class in groups.values():
        for split in SPLITS:
            spare = [group for group in of_class if splits[group] == "train"]
            if len(spare) > 1 and split not in {splits[group] for group in of_class}:
                splits[spare[0]] = split


def _check_classes(images: list[SurveyedImage]) -> None:
    counts = Counter((image.label, image.split) for image in _kept(images))
    labels = sorted({label for label, _ in counts})
    if len(labels) < 2:
        found = f"only the class {labels[0]!r}" if labels else "no usable images"
        raise TrainingError(f"DATA contains {found}. A classifier needs at least two classes.")
    for label in labels:
        total = sum(counts[label, split] for split in SPLITS)
        if total < MIN_IMAGES:
            raise TrainingError(
                f"DATA: class {label!r} has {total} usable images. Each class needs at least {MIN_IMAGES}; add images."
            )
        for split in SPLITS:
            if not counts[label, split]:
                raise TrainingError(
                    f"DATA: class {label!r} has {total} images, too few different ones for a {split} split. Add "
                    "images, or lower prepare.near_duplicate_bits in params.yaml."
                )


def perceptual_hash(pixels: NDArray[np.uint8]) -> int:
    """Return the 64-bit DCT hash of uint8 RGB (height, width, 3): which low frequencies are above the median."""
    grey = Image.fromarray(pixels).convert("L").resize((_DCT_SIDE, _DCT_SIDE), Image.Resampling.BILINEAR)
    low = dctn(np.asarray(grey, dtype=np.float32), norm="ortho")[:_DCT_KEPT, :_DCT_KEPT].ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def group_near_duplicates(hashes: NDArray[np.uint64], max_bits: int) -> NDArray[np.int64]:
    """Group hashes that differ in at most `max_bits` bits. Return for each hash (n,) the lowest index in its group.

    All pairs are compared, so the time grows with the square of n: 23,000 hashes take about a second.
    """
    if not len(hashes):
        return np.zeros(0, dtype=np.int64)
    pairs = []
    for start in range(0, len(hashes), _HASH_CHUNK):
        chunk = hashes[start : start + _HASH_CHUNK, None]
        near = np.bitwise_count(chunk ^ hashes[None, start:]) <= max_bits
        pairs.append(np.argwhere(np.triu(near, 1)) + start)
    left, right = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(len(hashes), len(hashes)))
    _, component = connected_components(graph, directed=False)
    _, lowest = np.unique(component, return_index=True)
    return np.asarray(lowest[component], dtype=np.int64)
