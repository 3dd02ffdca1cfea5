"""Loads a bundle with Keras on the chosen backend, checks its golden outputs, and warms it up."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.familiarity import read_prototypes, with_similarity
from bundle.golden import RECIPE, fingerprint, golden_inputs
from bundle.manifest import MODEL_FILE, BundleError, Manifest, Outputs, read_manifest
from contract.log import get_logger
from worker.runtime.side_by_side import PART, Call, SideBySide

_log = get_logger(__name__)

#: Maximum difference between a probability and the bundle's golden output. In float32, processors differ in the
#: sixth digit; bfloat16 has an 8-bit mantissa.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}
#: CPU flags for native bfloat16 multiplication (x86-64, 64-bit Arm).
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
#: Calls of each precision that are timed for each batch size.
_TIMED_CALLS = 5
_X86_64 = frozenset({"x86_64", "AMD64"})


class KerasModel:
    """A loaded classifier; `predict` may be called from one thread at a time."""

    def __init__(
        self, manifest: Manifest, call: Call, backend: str, precision: str, batch_sizes: Sequence[int]
    ) -> None:
        self.name, self.version = manifest.name, manifest.version
        #: Labels, in the order of the probabilities.
        self.labels = tuple(manifest.labels)
        #: Size of the input, in pixels.
        self.height, self.width = manifest.input.height, manifest.input.width
        #: Keras backend: `tensorflow`, `jax` or `torch`.
        self.backend = backend
        #: `float32` or `bfloat16`.
        self.precision = precision
        self._manifest = manifest
        self._call = call
        self._batch_sizes = batch_sizes

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Probabilities and familiarity of uint8 RGB pixels (batch, height, width, 3)."""
        return self._manifest.read_outputs(self._raw(pixels))

    def warm_up(self) -> None:
        """Prepare for serving: run every batch size once, so that no job waits for compilation, and split batches."""
        if isinstance(self._call, SideBySide):
            self._call.build(self.height, self.width)
        for size in self._batch_sizes:
            self._call(np.zeros((size, self.height, self.width, 3), np.uint8))

    def golden_distance(self) -> float:
        """Largest difference between the model's outputs for the golden inputs and those in the bundle.

        Raises:
            BundleError: the bundle was exported by a version that generates different golden inputs.
        """
        inputs = golden_inputs(self.height, self.width)
        golden = self._manifest.golden
        if golden.recipe != RECIPE or golden.inputs_sha256 != fingerprint(inputs):
            raise BundleError(f"{self.name} {self.version} was exported with different golden inputs. Export it again.")
        return self._manifest.golden_distance(np.concatenate([self._raw(image[None]) for image in inputs]))

    def _raw(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        return self._call(self._pad(pixels))[: len(pixels)]

    def _pad(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pad to the next allowed batch size, so that nothing is compiled while jobs wait."""
        if self.backend == "tensorflow":
            return pixels  # its call accepts batches of any size
        count = len(pixels)
        size = next((size for size in self._batch_sizes if size >= count), count)
        return (
            np.concatenate([pixels, np.zeros((size - count, *pixels.shape[1:]), np.uint8)]) if size > count else pixels
        )


def choose_backend(name: str, cores: int) -> None:
    """Make Keras use `tensorflow`, `jax` or `torch` with `cores` threads; call this before Keras is imported.

    On a GPU, memory is allocated as needed, so that several workers can share it.
    """
    os.environ["KERAS_BACKEND"] = name
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")  # see `tensorflow.py`
    if platform.machine() in _X86_64:
        # TensorFlow enables oneDNN only on processors with AVX-512, but AVX2 benefits too (decisions/035).
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # The defaults count the cores of the machine, not those of the container.
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, str(cores))
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def load_model(folder: Path, precision: str, batch_size: int, cores: int, checksum: str | None = None) -> KerasModel:
    """Load, check and warm up the bundle at `folder`; the model runs on `cores` CPU cores.

    `precision` is `float32`, `bfloat16` or `auto`: bfloat16 if the processor supports it, the golden outputs agree, and
    it is faster.

    With a checksum, only the bundle that has it is loaded.

    Raises:
        BundleError: the bundle is missing or damaged, or the model does not predict as it did at export.
    """
    manifest = read_manifest(folder, checksum)
    load = partial(_load, folder, manifest, batch_size=batch_size, cores=cores)
    model = load("float32" if precision == "auto" else precision)
    distance = model.golden_distance()
    if distance > _TOLERANCE[model.precision]:
        raise BundleError(
            f"The model's outputs differ from the golden outputs of {folder} by {distance:.4f} "
            f"(allowed in {model.precision}: {_TOLERANCE[model.precision]}). "
            "The file is damaged or the library versions differ. Export it again."
        )
    if precision == "auto" and processor_has_bfloat16():
        model = _better(load("bfloat16"), model)
    model.warm_up()
    return model


def _better(bfloat16: KerasModel, float32: KerasModel) -> KerasModel:
    distance = bfloat16.golden_distance()
    if distance > _TOLERANCE["bfloat16"]:
        _log.warning("Serving in float32: in bfloat16 the golden outputs differ too much", distance=round(distance, 4))
        return float32
    if not is_faster(bfloat16, float32):
        _log.info("Serving in float32: this model is not faster in bfloat16 on this processor")
        return float32
    return bfloat16


def is_faster(model: KerasModel, other: KerasModel, clock: Callable[[], float] = time.perf_counter) -> bool:
    """Whether `model` takes less time than `other` for a single image and for a part of a batch.

    They take turns, and the fastest of several calls counts, so that other load on the machine affects both equally.
    """
    rng = np.random.default_rng(0)
    for size in (1, PART):
        pixels = rng.integers(256, size=(size, model.height, model.width, 3), dtype=np.uint8)
        times: dict[KerasModel, list[float]] = {model: [], other: []}
        for _ in range(_TIMED_CALLS + 1):
            for called, taken in times.items():
                began = clock()
                called.predict(pixels)
                taken.append(clock() - began)
        if min(times[model][1:]) >= min(times[other][1:]):  # the first calls compile
            return False
    return True


def processor_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor multiplies bfloat16 natively; False if it cannot be determined."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return bool(lines) and bool(_BFLOAT16_FLAGS & set(lines[0].split()))


def _load(folder: Path, manifest: Manifest, precision: str, *, batch_size: int, cores: int) -> KerasModel:
    keras = _import_keras()
    network = _read_network(keras, folder / MODEL_FILE)
    if precision == "bfloat16":
        _use_bfloat16(network)
    if manifest.familiarity:
        network = with_similarity(keras, network, manifest.familiarity.layer, read_prototypes(folder))
    backend = keras.backend.backend()
    call = (
        _tensorflow_call(network, manifest, precision, min(cores, batch_size))  # more cores would be idle
        if backend == "tensorflow"
        else network.predict_on_batch
    )
    return KerasModel(manifest, call, backend, precision, _batch_sizes(batch_size))


def _import_keras() -> Any:
    try:
        import keras  # noqa: PLC0415 - takes seconds, and needs `choose_backend` first
    except ModuleNotFoundError as error:
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        raise BundleError(
            f"The Keras backend {backend} is not installed ({error.name} is missing). "
            "Install it, or set PAWQUEUE_BACKEND to an installed one."
        ) from None
    return keras


def _read_network(keras: Any, path: Path) -> Any:
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    # Keras can raise anything on a file that it cannot read.
    except Exception as error:
        raise BundleError(f"Keras cannot load {path} ({error}). Export the bundle again.") from error


def _use_bfloat16(network: Any) -> None:
    """Compute in bfloat16; weights and the last layer stay in float32, so that probabilities keep their precision."""
    *inner, _last = network._flatten_layers(include_self=False)  # Keras has no public way to walk nested models
    for layer in inner:
        layer.dtype_policy = "mixed_bfloat16"


def _tensorflow_call(network: Any, manifest: Manifest, precision: str, cores: int) -> Call:
    from worker.runtime.tensorflow import tensorflow_call  # noqa: PLC0415 - other backends do not have TensorFlow

    return tensorflow_call(network, manifest.input.height, manifest.input.width, precision, cores)


def _batch_sizes(largest: int) -> list[int]:
    """The allowed batch sizes: the powers of two below `largest`, and `largest` itself."""
    sizes = [1 << power for power in range(largest.bit_length()) if 1 << power < largest]
    return [*sizes, largest]
