"""Loads a bundle in a fresh process, as a worker does, and compares its outputs with those of the network itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle.golden import TOLERANCE
from importer.request import ImportFailedError

_LIMIT_S = 900
_MEASURE_S = 0.5


def prove(
    folder: Path, pixels: NDArray[np.uint8], expected: NDArray[np.floating], *, trust_code: bool
) -> dict[str, float]:
    """The largest difference in float32, and in the precision that `auto` chooses here.

    Raises:
        ImportFailedError: the bundle cannot be loaded, or a difference is too large.
    """
    images = folder / ".proof.npy"
    np.save(images, pixels)
    try:
        command = [sys.executable, "-m", "importer.proof", str(folder), str(images), "1" if trust_code else "0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S)  # noqa: S603
        outputs = images.with_suffix(".json")
        if done.returncode or not outputs.is_file():
            lines = done.stderr.strip().splitlines() or ["the process ended"]
            raise ImportFailedError(f"The bundle cannot be loaded by a worker ({lines[-1][:300]}).")
        found = {name: np.array(values) for name, values in json.loads(outputs.read_text()).items()}
    finally:
        images.unlink(missing_ok=True)
        images.with_suffix(".json").unlink(missing_ok=True)
    differences = {name: float(np.abs(values - expected).max()) for name, values in found.items()}
    for name, difference in differences.items():
        if not difference <= TOLERANCE[name]:
            raise ImportFailedError(
                f"The bundle differs from the network by {difference:.4f} in {name} ({TOLERANCE[name]} is allowed), "
                "so it was not imported. Report this with the file."
            )
    return differences


def main(folder: Path, images: Path, trust_code: str) -> None:
    """Write the probabilities for the pixels in `images` to a file beside it."""
    from worker.runtime.keras import choose_backend, load_model  # noqa: PLC0415 - loads Keras

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    choose_backend("tensorflow", cores)
    pixels, found = np.load(images), {}
    for precision in ("float32", "auto"):
        model = load_model(folder, precision, 8, cores, measure_s=_MEASURE_S, trust_code=trust_code == "1")
        found[model.precision] = model.predict(pixels).probabilities.tolist()
    images.with_suffix(".json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
