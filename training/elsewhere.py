"""How a bundle answers images of another source: files of any shape and size, decoded as a worker decodes them."""

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
from bundle.manifest import MODEL_FILE, Interval
from training.errors import TrainingError, run_command
from training.fit import predict
from training.likeness import perceptual_hash
from training.params import PrepareParams, read_params
from training.prepared import read_split
from training.promotion import open_bundle
from training.robustness import SPOILT
from training.sources import LabelledFile, read_sources

#: Two files of one photograph differ in fewer bits of 64; two photographs practically never do.
_SAME_PHOTOGRAPH_BITS = 8
_ORIENTATION_TAG, _TURN_RIGHT = 0x0112, 6


def _jpeg(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 92} | options)
    return file.getvalue()


def _tagged(image: Image.Image) -> bytes:
    """Store the image on its side, with the orientation tag that says so, as phones do."""
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = _TURN_RIGHT
    return _jpeg(image.transpose(Image.Transpose.ROTATE_90), exif=exif)


def _sized(image: Image.Image, longest_px: int) -> Image.Image:
    scale = longest_px / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def _middle(image: Image.Image, width_to_height: float) -> Image.Image:
    """Cut out the middle, as wide and high as this shape allows."""
    width = min(image.width, image.height * width_to_height)
    height = width / width_to_height
    x, y = (image.width - width) / 2, (image.height - height) / 2
    return image.crop((round(x), round(y), round(x + width), round(y + height)))


#: What is done to an image before it is sent, by the name under which its accuracy is reported.
SENT_AS: dict[str, Callable[[Image.Image], bytes]] = {
    "natural shape, 320 px": _jpeg,
    "stored on its side, with orientation tag": _tagged,
    "4,000 px, with orientation tag": lambda image: _tagged(_sized(image, 4000)),
    "1,280 px": lambda image: _jpeg(_sized(image, 1280)),
    "160 px": lambda image: _jpeg(_sized(image, 160)),
    "96 px": lambda image: _jpeg(_sized(image, 96)),
    "upright 3:4": lambda image: _jpeg(_middle(image, 3 / 4)),
    "wide 16:9": lambda image: _jpeg(_middle(image, 16 / 9)),
    "grey": lambda image: _jpeg(image.convert("L")),
    "low light": lambda image: _jpeg(SPOILT["low light"](image)),
    "JPEG at quality 20": lambda image: _jpeg(image, quality=20),
    "on its side, without tag": lambda image: _jpeg(image.transpose(Image.Transpose.ROTATE_90)),
}


def measure_elsewhere(bundle: Path, prepared: Path, paths: list[Path], params: PrepareParams) -> dict[str, Any]:
    """Accuracy of the bundle on the images at `paths`, sent in each way of `SENT_AS`, with its 95 % interval.

    Images that show a photograph of the training or the validation split are left out, whatever their size and shape.

    Raises:
        TrainingError: the bundle or a source cannot be read, or no image of its labels is left.
    """
    manifest = open_bundle(bundle)
    found = list(read_sources(paths, rename=params.rename, max_unpacked_bytes=params.max_unpacked_gb * 1e9))
    files = _unseen([file for file in found if file.label in manifest.labels], prepared)
    if not files:
        raise TrainingError(f"DATA holds no image of {' or '.join(manifest.labels)} that training has not seen.")
    network = keras.saving.load_model(bundle / MODEL_FILE, compile=False)
    images = [Image.open(io.BytesIO(file.data)).convert("RGB") for file in files]
    truth = np.array([manifest.labels.index(file.label) for file in files])
    shares = {}
    for name, send in tqdm(SENT_AS.items(), unit=" ways"):
        sent = [decode(send(image), manifest.input.height, manifest.input.width).pixels for image in images]
        right = int((predict(network, np.stack(sent)).argmax(axis=1) == truth).sum())
        shares[name] = share_with_interval(right, len(truth)).model_dump()
    return {"version": manifest.version, "pictures": len(files), "left_out": len(found) - len(files), "sent": shares}


def share_with_interval(right: int, of: int) -> Interval:
    """Share of `right` in `of` with its 95 % interval (Wilson)."""
    between = binomtest(right, of).proportion_ci(method="wilson")
    return Interval(value=right / of, low=float(between.low), high=float(between.high))


def _unseen(files: list[LabelledFile], prepared: Path) -> list[LabelledFile]:
    """Leave out what is broken and what shows a photograph of the training or validation split."""
    known = np.array(
        [perceptual_hash(pixels) for name in ("train", "validation") for pixels in read_split(prepared, name).pixels],
        dtype=np.uint64,
    )
    kept = []
    for file in files:
        try:
            own = perceptual_hash(decode(file.data, 64, 64).pixels)
        except UndecodableImageError:
            continue
        if np.bitwise_count(known ^ np.uint64(own)).min() > _SAME_PHOTOGRAPH_BITS:
            kept.append(file)
    return kept


def main() -> None:
    """Read the command line and print the measurement as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m training.elsewhere",
        description=__doc__,
        epilog="example: python -m training.elsewhere ../shared/data/natural-*.tar > build/elsewhere.json",
    )
    parser.add_argument("data", type=Path, nargs="+", help="folders, tars or zips of labelled images")
    parser.add_argument("--bundle", type=Path, default=Path("build/bundle"))
    parser.add_argument("--prepared", type=Path, default=Path("build/prepared"), help="what must not be among them")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    given = parser.parse_args()
    found = measure_elsewhere(given.bundle, given.prepared, given.data, read_params(given.params).prepare)
    json.dump(found, sys.stdout, indent=2)


if __name__ == "__main__":
    run_command(main)
