"""Accuracy on degraded test images, as an indication of the accuracy on images from other sources.

The stage `evaluate` measures one network. The command compares bundles on the test images that they share.
"""

import argparse
import hashlib
import io
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from bundle.decode import decode
from bundle.manifest import MODEL_FILE, read_manifest
from training.data.sources import LabeledFile, read_sources
from training.data.splits import ImageFacts, Split
from training.errors import TrainingError, run_command
from training.files import PARAMS_FILE
from training.networks.architectures import predict
from training.params import PrepareParams, read_params
from training.quality.comparison import read_predictions
from training.quality.metrics import accuracy
from training.terminal import progress_bar


def _dim(image: Image.Image) -> Image.Image:
    curve = (0.35 * 255 * (np.arange(256) / 255) ** 1.6).astype(np.uint8)
    return image.point(curve.tolist() * 3)


def _crop(image: Image.Image) -> Image.Image:
    """Keep the middle 60 % of each side."""
    x, y = image.width / 5, image.height / 5
    return image.resize(image.size, Image.Resampling.BILINEAR, (x, y, image.width - x, image.height - y))


def _far(image: Image.Image) -> Image.Image:
    """Shrink each side to 60 % and fill the border by mirroring."""
    small = image.resize((image.width * 3 // 5, image.height * 3 // 5), Image.Resampling.BILINEAR, reducing_gap=2)
    down, across = image.height - small.height, image.width - small.width
    padding = ((down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0))
    return Image.fromarray(np.pad(np.asarray(small), padding, mode="reflect"))


def _stretch(image: Image.Image) -> Image.Image:
    """Stretch the middle two thirds to the full width, like a narrow image that was resized to a square."""
    x = image.width / 6
    return image.resize(image.size, Image.Resampling.BILINEAR, (x, 0, image.width - x, image.height))


def _recompress(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=20)
    return Image.open(file).convert("RGB")


def _noise(image: Image.Image) -> Image.Image:
    grain = np.random.default_rng(0).normal(0, 15, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


#: Degradations by their name in `results.json`.
DEGRADATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as they are": lambda image: image,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "low light": _dim,
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(image.width / 100)),
    "noisy": _noise,
    "JPEG at quality 20": _recompress,
    "cropped": _crop,
    "far away": _far,
    "stretched": _stretch,
    "mirrored": ImageOps.mirror,
    "on its side": lambda image: image.transpose(Image.Transpose.ROTATE_90).resize(image.size),
}


def measure_robustness(network: keras.Model, test: Split) -> dict[str, float]:
    """Accuracy on the test images under each degradation."""
    return {
        name: accuracy(predict(network, _apply(degrade, test.pixels)).astype(float), test.targets)
        for name, degrade in progress_bar(DEGRADATIONS.items(), desc="degraded test images", unit=" kinds")
    }


def compare_robustness(bundles: list[Path], data: list[Path], params: PrepareParams) -> dict[str, dict[str, float]]:
    """Return the accuracy of each bundle, by version and degradation, on the test images that all bundles share.

    The images are found in `data` by their checksums, and decoded at the input size of each bundle.

    Raises:
        BundleError: a bundle is missing or damaged.
        TrainingError: `data` cannot be read, or does not contain all of these images.
    """
    shared = set.intersection(*(set(read_predictions(bundle).checksums) for bundle in bundles))
    sources = read_sources(data, rename=params.rename, max_unpacked_bytes=params.max_unpacked_gb * 1e9)
    files = {checksum: file for file in sources if (checksum := hashlib.sha256(file.data).hexdigest()) in shared}
    if not files or len(files) < len(shared):
        raise TrainingError(
            f"DATA contains {len(files)} of the {len(shared)} test images that the bundles share. "
            "Use the data that they were trained on."
        )
    return {read_manifest(bundle).version: _measure_bundle(bundle, files) for bundle in bundles}


def _measure_bundle(bundle: Path, files: dict[str, LabeledFile]) -> dict[str, float]:
    manifest = read_manifest(bundle)
    images = [decode(file.data, *manifest.input.target) for file in files.values()]
    facts = [
        ImageFacts(file.name, file.label, checksum, image.width, image.height)
        for (checksum, file), image in zip(files.items(), images, strict=True)
    ]
    test = Split(np.stack([image.pixels for image in images]), facts, manifest.labels)
    return measure_robustness(keras.saving.load_model(bundle / MODEL_FILE, compile=False), test)


def _render_table(found: dict[str, dict[str, float]]) -> Iterable[str]:
    """Yield the lines of a Markdown table."""
    yield f"| degradation | {' | '.join(found)} |"
    yield f"| --- |{' --- |' * len(found)}"
    for name in DEGRADATIONS:
        yield f"| {name} | {' | '.join(f'{100 * shares[name]:.1f} %' for shares in found.values())} |"


def _apply(degrade: Callable[[Image.Image], Image.Image], pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(degrade(Image.fromarray(image))) for image in pixels])


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m training.quality.robustness",
        description=__doc__,
        epilog="example: python -m training.quality.robustness models/cats-dogs build/bundle --data photos.tar",
    )
    parser.add_argument("bundles", type=Path, nargs="+", help="folders of bundles")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="the folders, tars or zips of `make train`")
    parser.add_argument("--params", type=Path, default=PARAMS_FILE, help=f"default: {PARAMS_FILE}")
    args = parser.parse_args()
    print(*_render_table(compare_robustness(args.bundles, args.data, read_params(args.params).prepare)), sep="\n")


if __name__ == "__main__":
    run_command(main)
