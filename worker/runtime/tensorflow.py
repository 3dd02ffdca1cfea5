"""Calls a network in TensorFlow: a small batch in one call on all cores, a large one as parts on one core each."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from worker.runtime.side_by_side import Call, SideBySide

#: Larger networks get no narrow (one-core) call, because it would hold a second copy of the weights.
_WEIGHTS_MAX_BYTES = 500_000_000


def tensorflow_call(network: Any, height: int, width: int, precision: str, cores: int) -> Call:
    """A compiled call for batches of any size; on CPUs, one that splits large ones once its `build` has finished."""
    compiled = _compile(network, height, width)
    # With constant weights, TensorFlow computes batch normalization and type conversions once, not in every call.
    is_faster_frozen = precision == "bfloat16" or _has_batch_normalization(network)
    frozen = convert_variables_to_constants_v2(compiled) if is_faster_frozen else None
    wide = _on_all_cores(frozen or compiled)
    if tf.config.list_physical_devices("GPU") or 4 * network.count_params() > _WEIGHTS_MAX_BYTES:
        return wide
    # With one core, parts use the wide call: splitting still helps, because a part fits the CPU cache better.
    return SideBySide(
        wide,
        cores,
        lambda: wide if cores == 1 else _on_one_core(frozen or convert_variables_to_constants_v2(compiled), cores),
    )


def _compile(network: Any, height: int, width: int) -> Any:
    # Keras does not need autograph, which leaves files in the temporary folder.
    signature = [tf.TensorSpec((None, height, width, 3), tf.uint8)]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def call(pixels: Any) -> Any:
        return tf.cast(network(tf.cast(pixels, tf.float32), training=False), tf.float32)

    return call.get_concrete_function()


def _on_all_cores(compiled: Any) -> Call:
    def run(pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        outputs = compiled(tf.constant(pixels))
        found: NDArray[np.floating] = (outputs[0] if isinstance(outputs, (list, tuple)) else outputs).numpy()
        return found

    return run


def _on_one_core(frozen: Any, callers: int) -> Call:
    """A call for `callers` parallel threads, each of which runs on one core.

    Only a session can use fewer threads per operation than the process, and only if `TF_OVERRIDE_GLOBAL_THREADPOOL` is
    set before TensorFlow starts.
    """
    options = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=callers, use_per_session_threads=True
    )
    # A second pass over the graph gains nothing and takes seconds with large weights.
    options.graph_options.rewrite_options.meta_optimizer_iterations = RewriterConfig.ONE
    session = tf.compat.v1.Session(graph=frozen.graph, config=options)
    call: Call = session.make_callable(frozen.outputs[0].name, [frozen.inputs[0].name])
    return call


def _has_batch_normalization(network: Any) -> bool:
    layers = network._flatten_layers()  # Keras has no public way to walk nested models
    return any(type(layer).__name__ == "BatchNormalization" for layer in layers)
