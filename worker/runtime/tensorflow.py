"""Compiles the calls of a network in TensorFlow."""

from collections.abc import Sequence
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from bundle.manifest import BundleError
from bundle.operations import unsafe_operations
from worker.runtime.strategies import Call, Kind

#: Larger networks have only one call, because another one would hold a second copy of the weights.
_WEIGHTS_MAX_BYTES = 500_000_000


class TensorflowNetwork:
    """A network in one precision, and the calls compiled from it; they accept batches of any size."""

    def __init__(self, network: Any, height: int, width: int, precision: str, cores: int) -> None:
        self._network, self._height, self._width, self._cores = network, height, width, cores
        # In bfloat16, weights that are not constant are converted in every call.
        simplest: Kind = "frozen" if precision == "bfloat16" else "wide"
        others: Sequence[Kind] = ("frozen",) if tf.config.list_physical_devices("GPU") else ("frozen", "narrow")
        is_large = 4 * network.count_params() > _WEIGHTS_MAX_BYTES
        self.kinds: Sequence[Kind] = tuple(dict.fromkeys([simplest, *(() if is_large else others)]))

    def build(self, kind: Kind) -> Call:
        """Compile a call; a second request for the same kind returns the same call."""
        if kind == "narrow":
            return self._narrow
        return self._frozen if kind == "frozen" else self._wide

    @cached_property
    def _wide(self) -> Call:
        return _on_all_cores(self._function)

    @cached_property
    def _frozen(self) -> Call:
        return _on_all_cores(self._constant_function)

    @cached_property
    def _narrow(self) -> Call:
        return _on_one_core(self._constant_function, self._cores)

    @cached_property
    def _function(self) -> Any:
        # Keras does not need autograph, which leaves files in the temporary folder.
        signature = [tf.TensorSpec((None, self._height, self._width, 3), tf.uint8)]

        @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
        def call(pixels: Any) -> Any:
            return tf.cast(self._network(tf.cast(pixels, tf.float32), training=False), tf.float32)

        return call.get_concrete_function()

    @cached_property
    def _constant_function(self) -> Any:
        """The function with constant weights: TensorFlow computes batch normalization and conversions only once."""
        return convert_variables_to_constants_v2(self._function)


class GraphNetwork:
    """The graph of a bundle, called like a Keras network.

    Raises:
        BundleError: it cannot be read, or contains operations that may do more than compute.
    """

    def __init__(self, path: Path, *, trust_code: bool = False) -> None:
        graph = tf.compat.v1.GraphDef()
        content = path.read_bytes()
        try:
            graph.ParseFromString(content)
        except DecodeError as error:
            raise BundleError(f"{path} is not a TensorFlow graph. Export or copy the bundle again.") from error
        unsafe = unsafe_operations(operations(graph))
        if unsafe and not trust_code:
            raise BundleError(
                f"{path} contains operations that may do more than compute ({', '.join(unsafe)}). If you trust whoever "
                "made the model, set PAWQUEUE_TRUST_BUNDLE_CODE=true; otherwise import it again without them."
            )
        self._floats = len(content) // 4
        remove_node(graph, "pixels")
        self._graph = graph

    def __call__(self, pixels: Any, *, training: bool = False) -> Any:  # noqa: ARG002 - as in Keras
        """The outputs for float32 pixels, in the graph that is being built."""
        return tf.graph_util.import_graph_def(self._graph, {"pixels:0": pixels}, ["probabilities:0"], name="bundle")[0]

    def count_params(self) -> int:
        """About the number of weights."""
        return self._floats


def operations(graph: Any) -> set[str]:
    """The names of the operations of a graph and its functions."""
    functions = attrgetter("library.function")(graph)
    nodes = [*graph.node, *(node for function in functions for node in function.node_def)]
    return {node.op for node in nodes} - {function.signature.name for function in functions}


def remove_node(graph: Any, name: str) -> None:
    """Remove the placeholder of a graph's input, if there is one: the input is passed when the graph is imported."""
    for at in [at for at, node in enumerate(graph.node) if node.name == name]:
        del graph.node[at]


def _on_all_cores(function: Any) -> Call:
    def run(pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        outputs = function(tf.constant(pixels))
        found: NDArray[np.floating] = (outputs[0] if isinstance(outputs, (list, tuple)) else outputs).numpy()
        return found

    return run


def _on_one_core(constant: Any, callers: int) -> Call:
    """A call for `callers` parallel threads, each of which runs on one core.

    Only a session can use fewer threads per operation than the process, and only if `TF_OVERRIDE_GLOBAL_THREADPOOL` is
    set before TensorFlow starts.
    """
    options = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=callers, use_per_session_threads=True
    )
    # A second pass over the graph gains nothing and takes seconds with large weights.
    options.graph_options.rewrite_options.meta_optimizer_iterations = RewriterConfig.ONE
    session = tf.compat.v1.Session(graph=constant.graph, config=options)
    call: Call = session.make_callable(constant.outputs[0].name, [constant.inputs[0].name])
    return call
