"""How often a bundle notices that an image shows none of its classes."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bundle.decode import UndecodableImageError, decode
from bundle.familiarity import UNFAMILIAR_BELOW, read_prototypes, with_similarity
from bundle.manifest import MODEL_FILE, Familiarity, read_manifest
from training.data.sources import read_sources
from training.data.splits import read_split
from training.errors import TrainingError, run_command
from training.files import BUNDLE, PARAMS_FILE, PREPARED
from training.params import PrepareParams, read_params
from training.quality.elsewhere import share_with_interval

_BATCH = 64


def measure_unfamiliar(bundle: Path, prepared: Path, paths: list[Path], params: PrepareParams) -> dict[str, Any]:
    """Return the shares of the test images and of the images at `paths` that are unfamiliar, with 95 % intervals.

    `auc` is the probability that a test image is more similar to the training images than one of the other images.

    Raises:
        BundleError: the bundle is missing or damaged.
        TrainingError: the bundle has no prototypes, or a source cannot be read or contains no images.
    """
    manifest = read_manifest(bundle)
    if manifest.familiarity is None:
        raise TrainingError(f"{bundle} has no prototypes. Train it again, and export it.")
    target = manifest.input.target
    strange = []
    for file in read_sources(paths, rename=params.rename, max_unpacked_bytes=params.max_unpacked_gb * 1e9):
        try:
            strange.append(decode(file.data, *target).pixels)
        except UndecodableImageError:
            continue
    if not strange:
        raise TrainingError("DATA contains no images.")
    network = keras.saving.load_model(bundle / MODEL_FILE, compile=False)
    prototypes = read_prototypes(bundle, whitened=manifest.familiarity.whitened)
    network = with_similarity(keras, network, manifest.familiarity.layer, prototypes)
    tested = _similarities(network, read_split(prepared, "test").pixels)
    other = _similarities(network, np.stack(strange))
    are_tested = np.concatenate([np.ones(len(tested)), np.zeros(len(other))])
    return {
        "version": manifest.version,
        "auc": float(roc_auc_score(are_tested, np.concatenate([tested, other]))),
        "test": _unfamiliar(manifest.familiarity, tested),
        "other": _unfamiliar(manifest.familiarity, other),
    }


def _similarities(network: keras.Model, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    starts = range(0, len(pixels), _BATCH)
    parts = [network.predict_on_batch(np.asarray(pixels[start : start + _BATCH]))[:, -1] for start in starts]
    return np.concatenate(parts).astype(np.float32)


def _unfamiliar(scale: Familiarity, similarities: NDArray[np.float32]) -> dict[str, Any]:
    count = int((scale.of(similarities) < UNFAMILIAR_BELOW).sum())
    return {"pictures": len(similarities), "unfamiliar": share_with_interval(count, len(similarities)).model_dump()}


def main() -> None:
    """Read the command line and print the measurement as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m training.quality.unfamiliar",
        description=__doc__,
        epilog="example: python -m training.quality.unfamiliar others.tar > build/unfamiliar.json",
    )
    parser.add_argument("data", type=Path, nargs="+", help="folders, tars or zips of images of other things")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help=f"default: {BUNDLE}")
    parser.add_argument("--prepared", type=Path, default=PREPARED, help=f"default: {PREPARED}")
    parser.add_argument("--params", type=Path, default=PARAMS_FILE, help=f"default: {PARAMS_FILE}")
    args = parser.parse_args()
    found = measure_unfamiliar(args.bundle, args.prepared, args.data, read_params(args.params).prepare)
    json.dump(found, sys.stdout, indent=2)


if __name__ == "__main__":
    run_command(main)
