"""Accuracy of a bundle on images from other sources, of any shape and size, decoded as workers decode them."""

import argparse
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image
from scipy.stats import binomtest
from tqdm import tqdm

from bundle.decode import UndecodableImageError, decode
from bundle.manifest import MODEL_FILE, Interval, read_manifest
from training.data.sources import LabeledFile, read_sources
from training.data.splits import read_split
from training.data.survey import HASHED_SIDE, perceptual_hash
from training.errors import TrainingError, run_command
from training.files import BUNDLE, PARAMS_FILE, PREPARED
from training.networks.architectures import predict
from training.params import PrepareParams, read_params
from training.quality.robustness import DEGRADATIONS

#: Maximum number of bits, of 64, in which the hashes of two files of the same photograph differ.
_SAME_PHOTOGRAPH_BITS = 8
_ORIENTATION_TAG, _TURN_RIGHT = 0x0112, 6


def _jpeg(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 92} | options)
    return file.getvalue()


def _tagged(image: Image.Image) -> bytes:
    """Encode the image on its side with an orientation tag, as phones do."""
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = _TURN_RIGHT
    return _jpeg(image.transpose(Image.Transpose.ROTATE_90), exif=exif)


def _sized(image: Image.Image, longest_px: int) -> Image.Image:
    scale = longest_px / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def _middle(image: Image.Image, width_to_height: float) -> Image.Image:
    """Cut out the largest centered crop with this aspect ratio."""
    width = min(image.width, image.height * width_to_height)
    height = width / width_to_height
    x, y = (image.width - width) / 2, (image.height - height) / 2
    return image.crop((round(x), round(y), round(x + width), round(y + height)))


#: Each way of encoding an image, by the name in the result.
ENCODINGS: dict[str, Callable[[Image.Image], bytes]] = {
    "natural shape, 320 px": _jpeg,
    "stored on its side, with orientation tag": _tagged,
    "4,000 px, with orientation tag": lambda image: _tagged(_sized(image, 4000)),
    "1,280 px": lambda image: _jpeg(_sized(image, 1280)),
    "160 px": lambda image: _jpeg(_sized(image, 160)),
    "96 px": lambda image: _jpeg(_sized(image, 96)),
    "upright 3:4": lambda image: _jpeg(_middle(image, 3 / 4)),
    "wide 16:9": lambda image: _jpeg(_middle(image, 16 / 9)),
    "grey": lambda image: _jpeg(image.convert("L")),
    "low light": lambda image: _jpeg(DEGRADATIONS["low light"](image)),
    "JPEG at quality 20": lambda image: _jpeg(image, quality=20),
    "on its side, without tag": lambda image: _jpeg(image.transpose(Image.Transpose.ROTATE_90)),
}


def measure_elsewhere(bundle: Path, prepared: Path, paths: list[Path], params: PrepareParams) -> dict[str, Any]:
    """Return the accuracy on the images at `paths` in each of the `ENCODINGS`, with its 95 % interval.

    Photographs of the training and validation splits are left out, even in other sizes and shapes.

    Raises:
        BundleError: the bundle is missing or damaged.
        TrainingError: a source cannot be read, or no image with the bundle's labels remains.
    """
    manifest = read_manifest(bundle)
    found = list(read_sources(paths, rename=params.rename, max_unpacked_bytes=params.max_unpacked_gb * 1e9))
    files = _unseen([file for file in found if file.label in manifest.labels], prepared)
    if not files:
        raise TrainingError(
            f"DATA contains no unseen images of {' or '.join(manifest.labels)}. "
            "Add photographs that were not used in training."
        )
    network = keras.saving.load_model(bundle / MODEL_FILE, compile=False)
    images = [Image.open(io.BytesIO(file.data)).convert("RGB") for file in files]
    truth = np.array([manifest.labels.index(file.label) for file in files])
    shares = {}
    for name, encode in tqdm(ENCODINGS.items(), unit=" encodings"):
        pixels = [decode(encode(image), *manifest.input.target).pixels for image in images]
        correct = int((predict(network, np.stack(pixels)).argmax(axis=1) == truth).sum())
        shares[name] = share_with_interval(correct, len(truth)).model_dump()
    return {"version": manifest.version, "pictures": len(files), "left_out": len(found) - len(files), "sent": shares}


def share_with_interval(count: int, total: int) -> Interval:
    """Return `count` / `total` with its 95 % Wilson interval."""
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return Interval(value=count / total, low=float(interval.low), high=float(interval.high))


def _unseen(files: list[LabeledFile], prepared: Path) -> list[LabeledFile]:
    """Return the readable files, without photographs of the training and validation splits."""
    known = np.array(
        [perceptual_hash(pixels) for name in ("train", "validation") for pixels in read_split(prepared, name).pixels],
        dtype=np.uint64,
    )
    kept = []
    for file in files:
        try:
            image_hash = perceptual_hash(decode(file.data, HASHED_SIDE, HASHED_SIDE).pixels)
        except UndecodableImageError:
            continue
        if np.bitwise_count(known ^ np.uint64(image_hash)).min() > _SAME_PHOTOGRAPH_BITS:
            kept.append(file)
    return kept


def main() -> None:
    """Read the command line and print the measurement as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m training.quality.elsewhere",
        description=__doc__,
        epilog="example: python -m training.quality.elsewhere photos.tar > build/elsewhere.json",
    )
    parser.add_argument("data", type=Path, nargs="+", help="folders, tars or zips of labeled images")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help=f"default: {BUNDLE}")
    parser.add_argument(
        "--prepared",
        type=Path,
        default=PREPARED,
        help=f"default: {PREPARED}; its training and validation images are left out",
    )
    parser.add_argument("--params", type=Path, default=PARAMS_FILE, help=f"default: {PARAMS_FILE}")
    args = parser.parse_args()
    found = measure_elsewhere(args.bundle, args.prepared, args.data, read_params(args.params).prepare)
    json.dump(found, sys.stdout, indent=2)


if __name__ == "__main__":
    run_command(main)
