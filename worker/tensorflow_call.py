"""TensorFlow's call of a network: over all cores for a few images, on each core by itself for many."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from worker.side_by_side import Call, SideBySide

#: Weights beyond it are not held twice.
_WEIGHTS_MAX_BYTES = 500_000_000


def tensorflow_call(network: Any, height: int, width: int, precision: str, cores: int) -> Call:
    """One compiled function for batches of any size; on CPUs parts of a batch soon run on `cores` beside each other."""
    compiled = _compiled(network, height, width)
    # With weights as constants TensorFlow folds batch normalization and conversions into them once, not at every call.
    gains = precision == "bfloat16" or _normalizes(network)
    frozen = convert_variables_to_constants_v2(compiled) if gains else None
    wide = _eager(frozen or compiled)
    if tf.config.list_physical_devices("GPU") or 4 * network.count_params() > _WEIGHTS_MAX_BYTES:
        return wide
    call = SideBySide(wide, cores)
    call.build(
        lambda: wide if cores == 1 else _on_one_core(frozen or convert_variables_to_constants_v2(compiled), cores),
        height,
        width,
    )
    return call


def _compiled(network: Any, height: int, width: int) -> Any:
    # Keras needs no autograph, which leaves files of its own in the temporary folder.
    signature = [tf.TensorSpec((None, height, width, 3), tf.uint8)]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def call(pixels: Any) -> Any:
        return tf.cast(network(tf.cast(pixels, tf.float32), training=False), tf.float32)

    return call.get_concrete_function()


def _eager(compiled: Any) -> Call:
    def run(pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        outputs = compiled(tf.constant(pixels))
        found: NDArray[np.floating] = (outputs[0] if isinstance(outputs, (list, tuple)) else outputs).numpy()
        return found

    return run


def _on_one_core(frozen: Any, callers: int) -> Call:
    """The function for `callers` at once, each on a core of its own.

    Only a session can have fewer threads within an operation than the process has, and only where
    `TF_OVERRIDE_GLOBAL_THREADPOOL` is set before TensorFlow starts.
    """
    options = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=callers, use_per_session_threads=True
    )
    # A second round over the graph gains nothing, and costs seconds where weights are large.
    options.graph_options.rewrite_options.meta_optimizer_iterations = RewriterConfig.ONE
    session = tf.compat.v1.Session(graph=frozen.graph, config=options)
    call: Call = session.make_callable(frozen.outputs[0].name, [frozen.inputs[0].name])
    return call


def _normalizes(network: Any) -> bool:
    layers = network._flatten_layers()  # Keras offers no public walk into nested models
    return any(type(layer).__name__ == "BatchNormalization" for layer in layers)
