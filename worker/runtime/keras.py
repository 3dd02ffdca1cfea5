"""Loads a bundle with Keras on the chosen backend, checks its golden outputs, and warms it up."""

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.familiarity import read_prototypes, with_similarity
from bundle.golden import RECIPE, TOLERANCE, fingerprint, golden_inputs
from bundle.manifest import MANIFEST_FILE, MODEL_FILE, BundleError, Manifest, Outputs, read_manifest, sha256_of
from contract.ledger.types import ChosenStrategy
from contract.log import get_logger
from worker.runtime.remembered import Remembered, key_of, processor_has_bfloat16
from worker.runtime.strategies import (
    Call,
    Clock,
    Kind,
    Network,
    StrategyCall,
    measure,
    sizes_to_measure,
    usual_choices,
)

_log = get_logger(__name__)

_X86_64 = frozenset({"x86_64", "AMD64"})


class KerasModel:
    """A loaded classifier; `predict` may be called from one thread at a time."""

    def __init__(
        self,
        manifest: Manifest,
        network: Network,
        backend: str,
        precision: str,
        strategies: Sequence[ChosenStrategy],
        cores: int,
    ) -> None:
        self.name, self.version = manifest.name, manifest.version
        #: Labels, in the order of the probabilities.
        self.labels = tuple(manifest.labels)
        #: How images are resized to the input.
        self.target = manifest.input.target
        #: An image has the labels whose probability is at least this; None if it has exactly one label.
        self.threshold = manifest.threshold if manifest.output == "multi_label" else None
        #: Keras backend: `tensorflow`, `jax` or `torch`.
        self.backend = backend
        #: `float32` or `bfloat16`.
        self.precision = precision
        #: How batches run, in the order of their sizes.
        self.strategies = tuple(strategies)
        self._manifest = manifest
        self._call = StrategyCall(network, precision, strategies, cores)

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Probabilities and familiarity of uint8 RGB pixels (batch, height, width, 3)."""
        return self._manifest.read_outputs(self._call(pixels))

    def check(self) -> None:
        """Compare the outputs for single images with the golden outputs.

        Raises:
            BundleError: they differ too much, or this version generates different golden inputs.
        """
        _check_golden(self._call, self.precision, manifest=self._manifest)

    def warm_up(self) -> None:
        """Prepare for serving: run batches once, so that no job waits for compilation, and start to build the rest."""
        pixels = np.zeros((self.strategies[-1].images, self.target.height, self.target.width, 3), np.uint8)
        self._call.build(pixels, partial(_check_golden, precision=self.precision, manifest=self._manifest))
        for size in _batch_sizes(len(pixels)):
            self._call(pixels[:size])


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


def load_model(  # noqa: PLR0913 - the bundle, the settings and, for tests, the clock
    folder: Path,
    precision: str,
    batch_size: int,
    cores: int,
    checksum: str | None = None,
    *,
    measure_s: float = 0.0,
    memory: Path | None = None,
    clock: Clock = time.perf_counter,
    turn: AbstractContextManager[None] | None = None,
    trust_code: bool = False,
) -> KerasModel:
    """Load, check and warm up the bundle at `folder`; the model runs on `cores` CPU cores.

    `precision` is `float32`, `bfloat16` or `auto`: the faster one that agrees with the golden outputs. Strategies are
    read from the folder `memory`, or else measured for `measure_s` and written there. Each call of the measurement is
    made in the context `turn`.

    With a checksum, only the bundle that has it is loaded. A graph with operations that may do more than compute is
    loaded only with `trust_code`.

    Raises:
        BundleError: the bundle is missing or damaged, or the model does not predict as it did at export.
    """
    manifest = read_manifest(folder, checksum)
    cores = min(cores, batch_size)  # more cores would be idle
    load = cache(partial(_load_network, folder, manifest, batch_size=batch_size, cores=cores, trust_code=trust_code))
    make = partial(_make_model, manifest, load, cores)
    precisions = [precision]
    if manifest.format == "graph":
        precisions = ["float32"]
        if precision == "bfloat16":
            _log.warning("The bundle holds a graph, which runs in float32", model=manifest.name)
    elif precision == "auto":
        precisions = ["float32", "bfloat16"] if processor_has_bfloat16() else ["float32"]
    sizes = sizes_to_measure(batch_size)
    remembered = Remembered(memory, _key(folder, precisions, batch_size, cores)) if memory else None

    model = _recall(remembered, make) if remembered else None
    source = "remembered"
    if model is None:
        model, source = make(precisions[0], usual_choices(load(precisions[0]), sizes)), "not measured"
        model.check()
        if measure_s:
            pixels = np.random.default_rng(0).integers(
                256, size=(batch_size, model.target.height, model.target.width, 3), dtype=np.uint8
            )
            check = partial(_check_golden, manifest=manifest)
            networks = {name: load(name) for name in precisions}
            measured = measure(networks, pixels, cores, check, measure_s, clock, turn or nullcontext())
            model, source = make(*measured), "measured"
            if remembered:
                remembered.write(model.precision, model.strategies)
    _log.info(
        "Strategies chosen",
        source=source,
        precision=model.precision,
        strategies={item.images: item.strategy for item in model.strategies},
        measured_ms={item.images: item.measured_ms for item in model.strategies},
    )
    model.warm_up()
    return model


def _check_golden(call: Call, precision: str, *, manifest: Manifest) -> None:
    """Compare a call's outputs for single images with the golden outputs.

    Raises:
        BundleError: they differ too much, or this version generates different golden inputs.
    """
    golden, inputs = manifest.golden, golden_inputs(manifest.input.height, manifest.input.width)
    if golden.recipe != RECIPE or golden.inputs_sha256 != fingerprint(inputs):
        raise BundleError(
            f"{manifest.name} {manifest.version} was exported with different golden inputs. Export it again."
        )
    distance = manifest.golden_distance(np.concatenate([call(image[None]) for image in inputs]))
    if not distance <= TOLERANCE[precision]:
        raise BundleError(
            f"The outputs of {manifest.name} {manifest.version} differ from its golden outputs by {distance:.4f} "
            f"(allowed in {precision}: {TOLERANCE[precision]}). "
            "The file is damaged or the library versions differ. Export it again."
        )


def _key(folder: Path, precisions: Sequence[str], batch_size: int, cores: int) -> dict[str, Any]:
    return key_of(
        bundle=sha256_of(folder / MANIFEST_FILE),
        backend=os.environ.get("KERAS_BACKEND", "tensorflow"),
        precisions=list(precisions),
        batch_size=batch_size,
        cores=cores,
    )


def _recall(remembered: Remembered, make: Callable[[str, Sequence[ChosenStrategy]], KerasModel]) -> KerasModel | None:
    found = remembered.read()
    if found is None:
        return None
    try:
        model = make(found.precision, found.strategies)
        model.check()
    # Frameworks can raise anything on a network that they cannot freeze.
    except Exception as error:  # noqa: BLE001
        _log.warning("Measuring again: the remembered strategies cannot be used", reason=str(error)[:200])
        return None
    return model


def _make_model(
    manifest: Manifest,
    load: Callable[[str], Network],
    cores: int,
    precision: str,
    strategies: Sequence[ChosenStrategy],
) -> KerasModel:
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    return KerasModel(manifest, load(precision), backend, precision, strategies, cores)


def _load_network(
    folder: Path, manifest: Manifest, precision: str, *, batch_size: int, cores: int, trust_code: bool
) -> Network:
    keras = _import_keras()
    if manifest.format == "graph":
        if keras.backend.backend() != "tensorflow":
            raise BundleError(f"{manifest.name} is a TensorFlow graph. Set PAWQUEUE_BACKEND=tensorflow to serve it.")
        from worker.runtime.tensorflow import GraphNetwork, TensorflowNetwork  # noqa: PLC0415 - see below

        graph = GraphNetwork(folder / manifest.model_file, trust_code=trust_code)
        return TensorflowNetwork(graph, manifest.input.height, manifest.input.width, precision, cores)
    network = _read_network(keras, folder / MODEL_FILE, manifest)
    if precision == "bfloat16":
        _use_bfloat16(network)
    if manifest.familiarity:
        try:
            prototypes = read_prototypes(folder, whitened=manifest.familiarity.whitened)
            network = with_similarity(keras, network, manifest.familiarity.layer, prototypes)
        # NumPy and Keras can raise anything on a file that does not fit.
        except Exception as error:
            raise BundleError(
                f"The prototypes of {manifest.name} {manifest.version} cannot be used ({error}). Export it again."
            ) from error
    if keras.backend.backend() != "tensorflow":
        return _PaddedNetwork(network, batch_size)
    from worker.runtime.tensorflow import TensorflowNetwork  # noqa: PLC0415 - other backends do not have TensorFlow

    return TensorflowNetwork(network, manifest.input.height, manifest.input.width, precision, cores)


class _PaddedNetwork:
    """A network on JAX or PyTorch: batches are padded to a few sizes, so that nothing is compiled while jobs wait."""

    kinds: Sequence[Kind] = ("wide",)

    def __init__(self, network: Any, batch_size: int) -> None:
        self._network, self._sizes = network, _batch_sizes(batch_size)

    def build(self, _: Kind) -> Call:
        """The only call."""
        return self._predict

    def _predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        count = len(pixels)
        size = next((size for size in self._sizes if size >= count), count)
        padding = np.zeros((size - count, *pixels.shape[1:]), np.uint8)
        outputs: NDArray[np.floating] = self._network.predict_on_batch(np.concatenate([pixels, padding]))
        return outputs[:count]


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


def _read_network(keras: Any, path: Path, manifest: Manifest) -> Any:
    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
        shape = tuple(network.input_shape)
    # Keras can raise anything on a file that it cannot read.
    except Exception as error:
        raise BundleError(f"Keras cannot load {path} ({error}). Export the bundle again.") from error
    expected = (None, manifest.input.height, manifest.input.width, 3)
    if len(shape) != len(expected) or any(
        size not in (None, other) for size, other in zip(shape, expected, strict=True)
    ):
        raise BundleError(f"{path} has inputs of shape {shape}, its manifest {expected}. Export the bundle again.")
    return network


def _use_bfloat16(network: Any) -> None:
    """Compute in bfloat16; weights, the last layer that has any, and those after it stay in float32.

    So probabilities keep their precision.
    """
    layers = list(_leaves(network))
    head = max((at for at, layer in enumerate(layers) if layer.weights), default=len(layers) - 1)
    for leaf in layers[:head]:
        for layer in leaf._flatten_layers():  # Keras has no public way to walk the layers inside a layer
            layer.dtype_policy = "mixed_bfloat16"


def _leaves(network: Any) -> Iterator[Any]:
    """The layers of a network and of the networks nested in it, in the order of the calls."""
    for layer in network.layers:
        if getattr(layer, "layers", None):
            yield from _leaves(layer)
        else:
            yield layer


def _batch_sizes(largest: int) -> list[int]:
    """The allowed batch sizes: the powers of two below `largest`, and `largest` itself."""
    sizes = [1 << power for power in range(largest.bit_length()) if 1 << power < largest]
    return [*sizes, largest]
