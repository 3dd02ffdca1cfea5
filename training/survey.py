"""The first look at every image: what it is, what is wrong with it, and into which split it goes."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np

from bundle.decode import UndecodableImageError, decode
from training.errors import TrainingError
from training.likeness import group_alike, perceptual_hash
from training.params import PrepareParams
from training.sources import LabelledFile

SPLITS = ("train", "validation", "test")
#: Side in pixels at which images are compared with one another.
_LOOK_SIDE = 64
_CHUNK = 256

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Surveyed:
    """What is known of one image before it is prepared."""

    name: str
    label: str
    sha256: str
    size_bytes: int
    width: int = 0
    height: int = 0
    perceptual_hash: int = 0
    #: Why the image is left out; empty if it is not.
    dropped: str = ""
    #: Checksum that stands for all images alike; they share a split.
    group: str = ""
    split: str = ""


def survey(files: Iterable[LabelledFile], params: PrepareParams) -> list[Surveyed]:
    """Look at every image, drop the useless and the copies, and split the rest.

    Raises:
        TrainingError: fewer than two classes are left, or a class is too small to be split.
    """
    images = list(map_in_threads(lambda file: _look(file, params.min_side_px), files))
    images = _split(_group(_drop_surplus(_drop_copies(images), params), params), params)
    _check_classes(images)
    return images


def map_in_threads(function: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """Apply `function` on all cores, in order, holding no more than a chunk of items (Pillow frees the GIL)."""
    rest = iter(items)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while chunk := list(islice(rest, _CHUNK)):
            yield from pool.map(function, chunk)


def _look(file: LabelledFile, min_side_px: int) -> Surveyed:
    seen = Surveyed(file.name, file.label, hashlib.sha256(file.data).hexdigest(), len(file.data))
    try:
        image = decode(file.data, _LOOK_SIDE, _LOOK_SIDE)
    except UndecodableImageError as error:
        return replace(seen, dropped=f"broken: {error}")
    seen = replace(seen, width=image.width, height=image.height, perceptual_hash=perceptual_hash(image.pixels))
    if min(image.width, image.height) < min_side_px:
        return replace(seen, dropped=f"tiny: {image.width} x {image.height} px")
    return seen


def _drop_copies(images: list[Surveyed]) -> list[Surveyed]:
    """Keep the first of byte-identical images, and none where their labels contradict each other."""
    labels: dict[str, set[str]] = {}
    for image in images:
        labels.setdefault(image.sha256, set()).add(image.label)
    first: dict[str, str] = {}
    kept = []
    for image in images:
        reason = image.dropped
        if not reason and len(labels[image.sha256]) > 1:
            reason = f"copies labelled {' and '.join(sorted(labels[image.sha256]))}"
        elif not reason and first.setdefault(image.sha256, image.name) != image.name:
            reason = f"copy of {first[image.sha256]}"
        kept.append(replace(image, dropped=reason))
    return kept


def _drop_surplus(images: list[Surveyed], params: PrepareParams) -> list[Surveyed]:
    """Keep `max_per_class` of each class, always the same ones."""
    if not params.max_per_class:
        return images
    taken: Counter[str] = Counter()
    surplus = set()
    for image in sorted((p for p in images if not p.dropped), key=lambda p: p.sha256):
        taken[image.label] += 1
        if taken[image.label] > params.max_per_class:
            surplus.add(image.name)
    return [replace(p, dropped="surplus: prepare.max_per_class") if p.name in surplus else p for p in images]


def _group(images: list[Surveyed], params: PrepareParams) -> list[Surveyed]:
    """Name each group of alike images by the least checksum in it."""
    kept = sorted((p for p in images if not p.dropped), key=lambda p: p.sha256)
    hashes = np.array([p.perceptual_hash for p in kept], dtype=np.uint64)
    groups = {
        image.name: kept[int(first)].sha256
        for image, first in zip(kept, group_alike(hashes, params.near_duplicate_bits), strict=True)
    }
    return [replace(p, group=groups.get(p.name, "")) for p in images]


def _split(images: list[Surveyed], params: PrepareParams) -> list[Surveyed]:
    return [p if p.dropped else replace(p, split=split_of(p.group, params)) for p in images]


def split_of(group: str, params: PrepareParams) -> str:
    """Choose the split by the hash of seed and group, so that no image moves when others are added."""
    digest = hashlib.sha256(f"{params.seed}:{group}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < params.test:
        return "test"
    return "validation" if share < params.test + params.validation else "train"


def _check_classes(images: list[Surveyed]) -> None:
    kept = [p for p in images if not p.dropped]
    labels = sorted({p.label for p in kept})
    if len(labels) < 2:
        found = f"only the class {labels[0]!r}" if labels else "no usable image"
        raise TrainingError(f"DATA holds {found}; a classifier needs images of two classes or more.")
    counts = Counter((p.label, p.split) for p in kept)
    for label in labels:
        for split in SPLITS:
            if not counts[label, split]:
                total = sum(counts[label, s] for s in SPLITS)
                raise TrainingError(
                    f"DATA: class {label!r} has {total} images, too few for a {split} split; add images "
                    "or raise prepare.validation and prepare.test in params.yaml."
                )
