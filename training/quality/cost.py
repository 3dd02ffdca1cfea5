"""CPU and wall time of one prediction, for several bundles.

The bundles take turns in one process, so other load on the machine affects all of them equally.
"""

import argparse
import json
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from bundle.manifest import MODEL_FILE, read_manifest
from training.errors import TrainingError, run_command

_BATCHES = (1, 32)
#: Milliseconds per image, float32, in the order of the model card.
COLUMNS = ("cpu_ms_batch_1", "cpu_ms_batch_32", "wall_ms_batch_1", "wall_ms_batch_32")


def measure_cost(folders: list[Path], rounds: int) -> list[dict[str, Any]]:
    """Return one row per bundle: its description, and the median times in `COLUMNS`.

    Raises:
        TrainingError: the Keras backend is not TensorFlow, which workers use.
    """
    if keras.backend.backend() != "tensorflow":
        raise TrainingError("Cost is measured on TensorFlow only. Set KERAS_BACKEND=tensorflow.")
    calls = [_compiled(folder) for folder in folders]
    rows = [_describe(folder) for folder in folders]
    for batch in _BATCHES:
        times: list[list[tuple[float, float]]] = [[] for _ in folders]
        for _ in range(rounds):
            for (call, shape), bundle_times in zip(calls, times, strict=True):
                bundle_times.append(_timed(call, np.zeros((batch, *shape), np.uint8), max(1, 32 // batch)))
        for row, bundle_times in zip(rows, times, strict=True):
            row[f"cpu_ms_batch_{batch}"], row[f"wall_ms_batch_{batch}"] = (
                round(median(column), 3) for column in zip(*bundle_times, strict=True)
            )
    return rows


def _describe(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    accuracy = manifest.metrics.get("accuracy")
    return {
        "architecture": manifest.architecture,
        "version": manifest.version,
        "input": f"{manifest.input.height} x {manifest.input.width}",
        "size_mb": (folder / MODEL_FILE).stat().st_size / 1e6,
        "accuracy": accuracy.model_dump() if accuracy else None,
        "train_pictures": manifest.data.get("train_pictures", 0),
    }


def _compiled(folder: Path) -> tuple[Any, tuple[int, int, int]]:
    """Return the network, frozen and warmed up as in a worker, and the shape of one input image."""
    import tensorflow as tf  # noqa: PLC0415 (only needed here)
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2  # noqa: PLC0415

    manifest = read_manifest(folder)
    network = keras.saving.load_model(folder / MODEL_FILE, compile=False)
    shape = (manifest.input.height, manifest.input.width, 3)
    compiled = tf.function(
        lambda pixels: network(tf.cast(pixels, tf.float32), training=False),
        input_signature=[tf.TensorSpec((None, *shape), tf.uint8)],
    )
    frozen = convert_variables_to_constants_v2(compiled.get_concrete_function())

    def call(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs: NDArray[np.float32] = frozen(tf.constant(pixels))[0].numpy()
        return outputs

    for batch in _BATCHES:
        call(np.zeros((batch, *shape), np.uint8))
    return call, shape


def _timed(call: Any, pixels: NDArray[np.uint8], repeats: int) -> tuple[float, float]:
    """Mean CPU and wall time per image in ms, over `repeats` calls."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        call(pixels)
    images = repeats * len(pixels)
    return 1000 * (time.process_time() - cpu) / images, 1000 * (time.perf_counter() - wall) / images


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        prog="python -m training.quality.cost",
        description=__doc__,
        epilog="example: python -m training.quality.cost build/baseline build/bundle > build/cost.json",
    )
    parser.add_argument("folders", type=Path, nargs="+", help="folders of bundles")
    parser.add_argument("--rounds", type=int, default=20, help="number of measurements; default: 20")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(json.dumps({"cores": cores, "bundles": measure_cost(args.folders, args.rounds)}, indent=2))


if __name__ == "__main__":
    run_command(main)
