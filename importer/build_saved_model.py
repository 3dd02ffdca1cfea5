"""Reads a signature of a SavedModel as a graph with constant weights."""

from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from bundle.operations import unsafe_operations
from importer import graph
from importer.network import Network, choose_output, from_graph, read_form
from importer.request import ImportFailedError, Request
from worker.runtime.tensorflow import operations

_DEFAULT = "serving_default"
_INTERNAL = "__saved_model_init_op"
#: Operations with which every SavedModel keeps its weights. They are not in the graph of a bundle.
_WEIGHTS = frozenset(
    (  # noqa: SIM905 - shorter than a list
        "VarHandleOp ReadVariableOp AssignVariableOp VarIsInitializedOp VariableV2 Assign SaveV2 RestoreV2 "
        "MergeV2Checkpoints ShardedFilename StringJoin StaticRegexFullMatch DisableCopyOnRead DestroyResourceOp"
    ).split()
)


def build(path: Path, shown: str, request: Request) -> Network:
    """The network behind a signature of the SavedModel at `path`.

    Raises:
        ImportFailedError: it cannot be read, or contains operations that may do more than compute.
    """
    _check(path / "saved_model.pb", shown, trusted=request.trust_code)
    # TensorFlow can raise anything on a folder that it cannot read.
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ImportFailedError(f"{shown} cannot be read ({reason}): export the network again.") from error
    name, function = _signature(loaded, request.signature, shown)
    inputs = function.structured_input_signature[1]
    if len(inputs) != 1:
        raise ImportFailedError(
            f"{shown}: the signature {name} has {len(inputs)} inputs ({', '.join(inputs)}); a classifier has one."
        )
    ((argument, spec),) = inputs.items()
    if spec.shape.rank is None:
        raise ImportFailedError(f"{shown}: the signature {name} accepts inputs of any shape: export it with a shape.")
    if spec.dtype == tf.string:
        raise ImportFailedError(f"{shown}: the signature {name} takes encoded images; one that takes pixels is needed.")
    form = read_form(spec.shape.as_list()[1:], request.size)
    outputs = sorted(function.structured_outputs)
    wanted = outputs[choose_output(outputs, request.output)]

    def call(pixels: Any) -> Any:
        return function(**{argument: pixels})[wanted]

    batch = spec.shape.as_list()[0]
    if batch is not None:
        raise ImportFailedError(
            f"{shown}: the signature {name} takes exactly {batch} images: export it for any number."
        )
    graph_def = graph.freeze(call, form.shape, spec.dtype)
    return from_graph(
        "saved-model",
        graph_def,
        form,
        shown,
        trusted=request.trust_code,
        notes=(f"The signature {name} is used, kept as a TensorFlow graph in float32.",),
    )


def _check(path: Path, shown: str, *, trusted: bool) -> None:
    """Require that nothing but weights is read or written when the SavedModel is loaded."""
    saved = SavedModel()
    try:
        saved.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise ImportFailedError(f"{shown} is damaged or incomplete ({error}).") from error
    used = {name for meta in saved.meta_graphs for name in operations(meta.graph_def)}
    unsafe = unsafe_operations(used, also=_WEIGHTS)
    if unsafe and not trusted:
        raise ImportFailedError(
            f"{shown} contains operations that may do more than compute ({', '.join(unsafe[:5])}): pass --trust-code "
            "if you trust whoever made it."
        )


def _signature(loaded: Any, wanted: str | None, shown: str) -> tuple[str, Any]:
    signatures = {name: function for name, function in loaded.signatures.items() if name != _INTERNAL}
    if not signatures:
        raise ImportFailedError(f"{shown} has no signature: export the network with `model.export(folder)`.")
    name = wanted or (_DEFAULT if _DEFAULT in signatures else next(iter(signatures)))
    if name not in signatures:
        raise ImportFailedError(f"--signature {name}: {shown} has the signatures {', '.join(sorted(signatures))}.")
    if wanted is None and name != _DEFAULT and len(signatures) > 1:
        raise ImportFailedError(
            f"{shown} has several signatures: pass --signature with one of {', '.join(sorted(signatures))}."
        )
    return name, signatures[name]
