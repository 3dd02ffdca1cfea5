"""The Keras runtime: load a bundle on the chosen backend, check it, warm it up, predict."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.golden import RECIPE, fingerprint, golden_inputs
from bundle.manifest import MODEL_FILE, BundleError, Manifest, read_manifest
from contract.log import get_logger
from worker.side_by_side import Call

_log = get_logger(__name__)

#: How far a probability may lie from the bundle's own golden output. Between processors float32 differs in the sixth
#: digit; bfloat16 keeps 8 bits of the mantissa.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}
#: Flags of processors that multiply bfloat16 natively (x86-64, 64-bit Arm).
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
#: Names of this kind of processor.
_X86_64 = frozenset({"x86_64", "AMD64"})


class KerasModel:
    """See `worker.model.Model`."""

    def __init__(
        self, manifest: Manifest, call: Call, backend: str, precision: str, batch_sizes: Sequence[int]
    ) -> None:
        self.name, self.version, self.labels = manifest.name, manifest.version, tuple(manifest.labels)
        self.height, self.width = manifest.input.height, manifest.input.width
        self.backend, self.precision = backend, precision
        self._manifest = manifest
        self._call = call
        self._batch_sizes = batch_sizes

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        count = len(pixels)
        outputs = self._call(self._pad(pixels))[:count]
        return self._manifest.probabilities(outputs)

    def warm_up(self) -> None:
        """Run every allowed batch size once, so that the first jobs do not pay for it."""
        for size in self._batch_sizes:
            self._call(np.zeros((size, self.height, self.width, 3), np.uint8))

    def golden_distance(self) -> float:
        """Largest distance of a probability from what the bundle says its golden inputs give.

        Raises:
            BundleError: this version draws other golden inputs than the one that exported the bundle.
        """
        inputs = golden_inputs(self.height, self.width)
        golden = self._manifest.golden
        if golden.recipe != RECIPE or golden.inputs_sha256 != fingerprint(inputs):
            raise BundleError(f"{self.name} {self.version} was exported with other golden inputs; export it again.")
        found = np.concatenate([self.predict(inputs[at : at + 1]) for at in range(len(inputs))])
        return float(np.abs(found - np.array(golden.outputs, np.float32)).max())

    def _pad(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Fill up to the next allowed batch size, so that nothing is compiled while jobs wait."""
        count = len(pixels)
        if self.backend == "tensorflow":
            return pixels  # its call is compiled for batches of any size
        size = next((size for size in self._batch_sizes if size >= count), count)
        return (
            np.concatenate([pixels, np.zeros((size - count, *pixels.shape[1:]), np.uint8)]) if size > count else pixels
        )


def load_model(folder: Path, precision: str, batch_size: int, cores: int) -> KerasModel:
    """Load, check and warm up the bundle at `folder`, to compute on `cores`.

    `precision` is `float32`, `bfloat16` or `auto` (bfloat16 where the processor has it and the golden outputs agree).

    Raises:
        BundleError: the bundle is missing or damaged, or the model does not answer as it did at export.
    """
    manifest = read_manifest(folder)
    if precision == "auto":
        precision = "bfloat16" if processor_has_bfloat16() else "float32"
        if precision == "bfloat16" and (
            model := _load(folder, manifest, precision, batch_size, cores, must_agree=False)
        ):
            return model
        precision = "float32"
    model = _load(folder, manifest, precision, batch_size, cores, must_agree=True)
    assert model is not None  # noqa: S101 - must_agree raises otherwise
    return model


def processor_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor multiplies bfloat16 natively; False where that cannot be told."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return bool(lines) and bool(_BFLOAT16_FLAGS & set(lines[0].split()))


def batch_sizes_up_to(largest: int) -> list[int]:
    """The allowed batch sizes: powers of two, and the largest."""
    sizes = [1 << power for power in range(largest.bit_length()) if 1 << power < largest]
    return [*sizes, largest]


def _load(
    folder: Path, manifest: Manifest, precision: str, batch_size: int, cores: int, *, must_agree: bool
) -> KerasModel | None:
    keras = _import_keras()
    network = _read_network(keras, folder / MODEL_FILE)
    if precision == "bfloat16":
        _use_bfloat16(network)
    backend = keras.backend.backend()
    call = (
        _tensorflow_call(network, manifest, precision, min(cores, batch_size))  # a core more would have no image
        if backend == "tensorflow"
        else network.predict_on_batch
    )
    model = KerasModel(manifest, call, backend, precision, batch_sizes_up_to(batch_size))
    distance = model.golden_distance()
    if distance > _TOLERANCE[precision]:
        if must_agree:
            raise BundleError(
                f"{folder} answers its golden inputs {distance:.4f} away from what it did at export (allowed in "
                f"{precision}: {_TOLERANCE[precision]}): wrong library versions, or a damaged file. Export it again."
            )
        _log.warning("The model is served in float32: bfloat16 answers too differently", distance=round(distance, 4))
        return None
    model.warm_up()
    return model


def _import_keras() -> Any:
    """Keras on the chosen backend; takes seconds, which only a worker that loads a model pays."""
    try:
        import keras  # noqa: PLC0415
    except ModuleNotFoundError as error:
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        raise BundleError(
            f"The backend {backend} is not installed beside Keras ({error.name} is missing): install it, "
            "or set PAWQUEUE_BACKEND to one that is."
        ) from None
    return keras


def _read_network(keras: Any, path: Path) -> Any:
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    # Keras raises nearly anything on a file that it cannot read.
    except Exception as error:
        raise BundleError(f"{path} cannot be loaded by Keras ({error}). Export the bundle again.") from error


def _use_bfloat16(network: Any) -> None:
    """Compute in bfloat16; weights and the last layer stay in float32, so that probabilities keep their digits."""
    *inner, _last = network._flatten_layers(include_self=False)  # Keras offers no public walk into nested models
    for layer in inner:
        layer.dtype_policy = "mixed_bfloat16"


def _tensorflow_call(network: Any, manifest: Manifest, precision: str, cores: int) -> Call:
    from worker.tensorflow_call import tensorflow_call  # noqa: PLC0415 - other backends do without TensorFlow

    return tensorflow_call(network, manifest.input.height, manifest.input.width, precision, cores)


def choose_backend(name: str, cores: int) -> None:
    """Have Keras run on `tensorflow`, `jax` or `torch`, with `cores` threads; call it before anything imports Keras.

    On a GPU memory is taken as it is needed, not all at once, so that several workers share one.
    """
    os.environ["KERAS_BACKEND"] = name
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # its chatter stays out of the log
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")  # see `worker.tensorflow_call`
    if platform.machine() in _X86_64:
        # TensorFlow itself does so only where there is AVX-512; with AVX2 alone it gains, too (decisions/035).
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # By itself it takes a thread for each core of the machine, however few of them its container may use.
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, str(cores))
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
