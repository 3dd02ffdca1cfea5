"""TensorFlow graphs with constant weights: traced from networks, analyzed, and changed so that CPUs can run them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from bundle.operations import unsafe_operations
from importer.request import ImportFailedError
from worker.runtime.tensorflow import operations, remove_node

#: Names of the input of every graph made here, and of the output of the graph of a network.
INPUT, OUTPUT = "pixels", "output"
#: A graph is one message of Protocol Buffers.
_MAX_BYTES = 2_000_000_000
#: Operations that only pass values on.
_PASSING = frozenset(
    (  # noqa: SIM905 - shorter than a list
        "Identity IdentityN Cast Reshape Squeeze ExpandDims StopGradient PreventGradient Snapshot EnsureShape "
        "Transpose Pad PadV2 MirrorPad ResizeBilinear ResizeNearestNeighbor ResizeArea ResizeBicubic ReverseV2 "
        "StridedSlice Slice"
    ).split()
)
_ARITHMETIC = frozenset(["Mul", "Sub", "Add", "AddV2", "RealDiv", "Div", "Neg", "DivNoNan", "SquaredDifference"])
_TRANSPOSED = {"Conv2D": 2, "DepthwiseConv2dNative": 2, "MaxPool": 1, "AvgPool": 1}
_TRANSPOSED |= dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), 1)
_UNTOUCHED = frozenset({"BiasAdd"})

#: Takes and returns a tensor.
Call = Callable[[Any], Any]


def freeze(call: Call, shape: Sequence[int], dtype: Any = tf.float32, output: str = OUTPUT) -> Any:
    """The graph of `call` for batches of `shape` with its weights as constants.

    Raises:
        ImportFailedError: it keeps a state, or is too large.
    """
    signature = [tf.TensorSpec((None, *shape), dtype, name=INPUT)]
    function = tf.function(call, input_signature=signature, autograph=False)
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    try:
        graph = frozen.graph.as_graph_def()
    except ValueError as error:
        raise ImportFailedError(
            f"The network is larger than {_MAX_BYTES // 10**9} GB, which is not supported."
        ) from error
    (tensor,) = frozen.outputs
    node = graph.node.add(op="Identity", name=output, input=[tensor.name])
    node.attr["T"].type = tensor.dtype.as_datatype_enum
    state = [node.name for node in graph.node if node.op == "Placeholder" and node.name != INPUT]
    if state:
        raise ImportFailedError(f"The network keeps a state, such as a table ({state[0]}), which is not supported.")
    if graph.ByteSize() > _MAX_BYTES:
        raise ImportFailedError(f"The network is larger than {_MAX_BYTES // 10**9} GB, which is not supported.")
    return graph


def caller(graph: Any) -> Call:
    """A function that puts the graph of a network into the one that is being built."""
    inner = tf.compat.v1.GraphDef()
    inner.CopyFrom(graph)
    remove_node(inner, INPUT)

    def call(pixels: Any) -> Any:
        return tf.graph_util.import_graph_def(inner, {f"{INPUT}:0": pixels}, [f"{OUTPUT}:0"], name="network")[0]

    return call


def input_type(graph: Any) -> Any:
    """The type of the values that the graph takes."""
    return next(tf.dtypes.as_dtype(node.attr["dtype"].type) for node in graph.node if node.name == INPUT)


def runner(graph: Any) -> Callable[[NDArray[np.floating]], NDArray[np.floating]]:
    """A function that runs the graph of a network on arrays."""
    dtype = input_type(graph)
    function = tf.function(caller(graph), autograph=False, reduce_retracing=True)

    def run(pixels: NDArray[np.floating]) -> NDArray[np.floating]:
        found: NDArray[np.floating] = function(tf.cast(tf.constant(pixels), dtype)).numpy()
        return found

    return run


def require_pure(graph: Any, shown: str, *, trusted: bool) -> list[str]:
    """The operations that may do more than compute.

    Raises:
        ImportFailedError: there are some, and the user does not trust the file.
    """
    unsafe = unsafe_operations(operations(graph))
    python = [name for name in unsafe if "PyFunc" in name]
    if python:
        raise ImportFailedError(
            f"{shown} calls Python functions while it runs ({python[0]}), which a worker cannot do: replace them by "
            "operations of TensorFlow or Keras."
        )
    if unsafe and not trusted:
        raise ImportFailedError(
            f"{shown} contains operations that may do more than compute ({', '.join(unsafe[:5])}): pass --trust-code "
            "if you trust whoever made it."
        )
    return unsafe


def last_operation(graph: Any) -> str:
    """The operation that computes the output."""
    nodes = {node.name: node for node in graph.node}
    node = nodes[OUTPUT]
    while node.op in _PASSING and node.input:
        node = nodes[_node_name(node.input[0])]
    return str(node.op)


def scaling_operations(graph: Any) -> list[str]:
    """The arithmetic that is applied to the pixels before the first layer with weights, without normalized batches."""
    nodes = {node.name: node for node in graph.node}
    followers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            followers.setdefault(_node_name(name), []).append(node)
    found, reached, waiting = [], {INPUT}, [INPUT]
    while waiting:
        for node in followers.get(waiting.pop(), []):
            if node.name in reached or node.op not in _PASSING | _ARITHMETIC:
                continue
            reached.add(node.name)
            is_constant = all(_is_constant(nodes, name, reached) for name in node.input)
            is_batch = any(part in node.name.lower() for part in ("batch_norm", "batchnorm", "/bn"))
            if node.op in _ARITHMETIC and (not is_constant or is_batch):
                continue
            if node.op in _ARITHMETIC:
                found.append(str(node.op))
            waiting.append(node.name)
    return found


def for_cpus(graph: Any) -> Any:
    """The graph with layers in the layout that CPUs support (NHWC), between transpositions; itself if all are.

    Raises:
        ImportFailedError: a layer in the other layout is of a kind that is not supported.
    """
    # Reading a missing attribute would add it.
    laid_out = [node for node in graph.node if "data_format" in node.attr and node.op not in _UNTOUCHED]
    other = [node for node in laid_out if node.attr["data_format"].s == b"NCHW"]
    if not other:
        return graph
    unknown = [node.op for node in other if node.op not in _TRANSPOSED]
    if unknown:
        raise ImportFailedError(f"The network uses {unknown[0]} with channels first, which CPUs cannot run.")
    changed = tf.compat.v1.GraphDef()
    changed.CopyFrom(graph)
    for name, order in (("to_nhwc", (0, 2, 3, 1)), ("to_nchw", (0, 3, 1, 2))):
        node = changed.node.add(op="Const", name=f"layout/{name}")
        node.attr["dtype"].type = tf.int32.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(order, tf.int32))
    names = {node.name for node in other}
    for node in [node for node in changed.node if node.name in names]:
        _transpose_layer(changed, node)
    return changed


def _transpose_layer(graph: Any, node: Any) -> None:
    kind, name = node.attr["T"].type, node.name
    before = graph.node.add(op="Transpose", name=f"{name}/to_nhwc", input=[node.input[0], "layout/to_nhwc"])
    after = graph.node.add(op="Transpose", name=name, input=[f"{name}/nhwc", "layout/to_nchw"])
    for added in (before, after):
        added.attr["T"].type, added.attr["Tperm"].type = kind, tf.int32.as_datatype_enum
    node.name = f"{name}/nhwc"
    node.input[0] = before.name
    node.attr["data_format"].s = b"NHWC"
    for attribute in ("strides", "dilations", "ksize"):
        values = list(node.attr[attribute].list.i) if attribute in node.attr else []
        if len(values) == 4:
            node.attr[attribute].list.i[:] = [values[at] for at in (0, 2, 3, 1)]
    padding = list(node.attr["explicit_paddings"].list.i) if "explicit_paddings" in node.attr else []
    if len(padding) == 8:
        node.attr["explicit_paddings"].list.i[:] = [padding[at] for at in (0, 1, 4, 5, 6, 7, 2, 3)]


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _is_constant(nodes: dict[str, Any], tensor: str, reached: set[str]) -> bool:
    """Whether a tensor is a constant, or comes from the pixels."""
    name = _node_name(tensor)
    while name not in reached:
        node = nodes[name]
        if node.op == "Const":
            return True
        if node.op not in _PASSING or not node.input:
            return False
        name = _node_name(node.input[0])
    return True
