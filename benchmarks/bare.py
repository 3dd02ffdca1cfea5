"""The bare loop: decodes and predicts in one process, without a service. It is the baseline, so do not optimize it.

Pillow opens, converts to RGB and resizes (bilinear). Two threads decode the next batch while a compiled call predicts
the current one, in batches of 32. `python -m benchmarks.bare MODEL PRECISION` prints `ready`, then answers each line
of its standard input (`loop SECONDS` or `single COUNT`) with a line of JSON.
"""

import argparse
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.image import large_image

_BATCH = 32
_DECODE_THREADS = 2

Predict = Callable[[NDArray[np.uint8]], Any]


def load(folder: Path, precision: str) -> tuple[Predict, int, int]:
    """The compiled and warmed-up call of a bundle's model, and the height and width of its input.

    It runs on the backend in `KERAS_BACKEND`, by default TensorFlow.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras  # noqa: PLC0415 - the time of the import is measured

    network = keras.saving.load_model(folder / "model.keras", compile=False)
    if precision == "bfloat16":
        *inner, _last = network._flatten_layers(include_self=False)
        for layer in inner:
            layer.dtype_policy = "mixed_bfloat16"
    height, width = network.input_shape[1:3]
    on_tensorflow = keras.backend.backend() == "tensorflow"
    predict = _tensorflow_call(network, height, width) if on_tensorflow else network.predict_on_batch
    for size in (1, _BATCH):
        predict(np.zeros((size, height, width, 3), np.uint8))
    return predict, height, width


def _tensorflow_call(network: Any, height: int, width: int) -> Predict:
    import tensorflow as tf  # noqa: PLC0415 - other backends do not have it

    @tf.function(input_signature=[tf.TensorSpec((None, height, width, 3), tf.uint8)])  # type: ignore[untyped-decorator]
    def call(pixels: Any) -> Any:
        return network(tf.cast(pixels, tf.float32), training=False)

    def predict(pixels: NDArray[np.uint8]) -> Any:
        return call(tf.constant(pixels)).numpy()

    return predict


def decode(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The pixels of an image, resized to `size` (width, height)."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


class BareLoop:
    """Decodes and predicts the same image repeatedly."""

    def __init__(self, predict: Predict, height: int, width: int) -> None:
        self._predict = predict
        self._size = (width, height)
        self._data = large_image()
        self._decoders = ThreadPoolExecutor(_DECODE_THREADS)

    def loop(self, seconds: float) -> dict[str, float]:
        """Run for `seconds`; returns images per second over whole batches, and CPU milliseconds per image."""
        count, started_s, cpu_s = 0, time.perf_counter(), time.process_time()
        next_batch = self._decode_batch()
        while time.perf_counter() - started_s < seconds:
            batch, next_batch = next_batch, self._decode_batch()
            self._predict(np.stack([future.result() for future in batch]))
            count += _BATCH
        elapsed_s = time.perf_counter() - started_s
        used_s = time.process_time() - cpu_s
        for future in next_batch:
            future.result()
        return {"images_per_s": count / elapsed_s, "cpu_ms": used_s * 1000 / count}

    def single(self, count: int) -> dict[str, float]:
        """Decode and predict one image `count` times; returns the median milliseconds."""
        took_ms = []
        for _ in range(count):
            started_s = time.perf_counter()
            self._predict(self._decode()[None])
            took_ms.append((time.perf_counter() - started_s) * 1000)
        return {"p50_ms": statistics.median(took_ms)}

    def _decode_batch(self) -> list["Future[NDArray[np.uint8]]"]:
        return [self._decoders.submit(self._decode) for _ in range(_BATCH)]

    def _decode(self) -> NDArray[np.uint8]:
        return decode(self._data, self._size)


def main() -> None:
    """Load the model, print `ready`, and run the measurements that standard input requests."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("precision", choices=["float32", "bfloat16"])
    given = parser.parse_args()
    bare = BareLoop(*load(given.model, given.precision))
    print("ready", flush=True)
    for line in sys.stdin:
        mode, number = line.split()
        result = bare.loop(float(number)) if mode == "loop" else bare.single(int(number))
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
