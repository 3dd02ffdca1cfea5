"""Checks the configuration of a network against the list of what may be built from it, and mends old entries.

Keras builds objects that a configuration names. Here only layers, initializers and the like of Keras itself are
allowed, and of these none that runs code or reads files.
"""

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from importer.request import ImportFailedError

#: Layers that run code, or read files.
_FORBIDDEN = frozenset(
    {
        *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
        *("StringLookup", "IntegerLookup", "TextVectorization", "HashedCrossing", "Hashing"),
    }
)
#: Values, not objects.
_VALUES = frozenset(
    {
        "__tuple__",
        "__keras_tensor__",
        "__tensor__",
        "__numpy__",
        "__bytes__",
        "__ellipsis__",
        "__slice__",
        "TensorShape",
    }
)
_NETWORKS = frozenset({"Functional", "Sequential", "Model"})
_POLICIES = frozenset({"DTypePolicy", "Policy", "DTypePolicyMap", "FloatDTypePolicy"})
#: Modules of operations without functions as arguments.
_OPERATIONS = frozenset(f"keras.src.ops.{name}" for name in ("numpy", "nn", "math", "image", "linalg"))
_CORE = "keras.src.ops.core"
_CORE_OPERATIONS = frozenset({"Cast", "Slice", "SliceUpdate", "StopGradient", "Unstack", "Shape"})
#: Layers of Keras 2 that stand for a function of TensorFlow, and which functions they may call.
_KERAS2_CALLS = frozenset({"TFOpLambda", "SlicingOpLambda"})
_KERAS2_FUNCTIONS = ("math.", "nn.", "compat.v1.nn.", "compat.v1.math.", "__operators__.", "linalg.")
_KERAS2_NAMES = frozenset(
    (  # noqa: SIM905 - shorter than a list
        "cast reshape transpose concat stack split pad expand_dims squeeze tile clip_by_value shape slice "
        "strided_slice gather where ones_like zeros_like identity reverse unstack repeat maximum minimum multiply add "
        "subtract divide truediv abs sqrt square pow exp sigmoid tanh convert_to_tensor reduce_mean reduce_max "
        "reduce_sum image.resize image.rgb_to_grayscale image.grayscale_to_rgb image.per_image_standardization "
        "image.resize_with_pad image.central_crop compat.v1.transpose compat.v1.pad compat.v1.shape compat.v1.gather "
        "compat.v1.image.resize compat.v1.squeeze"
    ).split()
)
_KERAS2_LAYERS = frozenset({"BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization", *_KERAS2_CALLS})
_SMALL_FLOATS = frozenset({"mixed_float16", "float16", "mixed_bfloat16", "bfloat16"})
#: Values of unknown arguments that can be left out: with them, old layers did nothing special.
_NO_EFFECT: tuple[Any, ...] = (None, False, 1, [], {})
_SCALING = frozenset({"Rescaling", "Normalization"})


@dataclass(frozen=True)
class Foreign:
    """A part of a network that is not allowed."""

    #: Name of the layer.
    layer: str
    #: Name of its class, or of the function.
    kind: str
    is_code: bool


def foreign_parts(config: dict[str, Any], *, keras2: bool) -> list[Foreign]:
    """The parts that do not belong to Keras, or run code."""
    allowed = _allowed_names() | (_KERAS2_LAYERS if keras2 else frozenset())
    return [found for part, layer in _parts(config, "") if (found := _foreign(part, layer, allowed))]


def refuse(shown: str, foreign: Foreign) -> ImportFailedError:
    """The error for such a part."""
    if foreign.is_code:
        return ImportFailedError(
            f"{shown}: the layer {foreign.layer!r} runs code or reads files ({foreign.kind}): replace it "
            "by layers of Keras and save the network again, or pass --trust-code if you trust whoever made the file."
        )
    return ImportFailedError(
        f"{shown}: the layer {foreign.layer!r} uses {foreign.kind}, which is not part of Keras: pass --module FILE "
        "with the Python file that defines it, which will be run."
    )


def uncompiled(value: Any) -> Any:
    """A copy of a configuration without the optimizers, losses and metrics of its networks."""
    if isinstance(value, list):
        return [uncompiled(item) for item in value]
    if isinstance(value, dict):
        return {name: uncompiled(item) for name, item in value.items() if name != "compile_config"}
    return value


def in_float32(value: Any) -> tuple[Any, bool]:
    """A copy of a configuration that computes in float32, and whether it did not before."""
    if isinstance(value, list):
        pairs = [in_float32(item) for item in value]
        return [item for item, _ in pairs], any(changed for _, changed in pairs)
    if not isinstance(value, dict):
        return value, False
    mended, changed = {}, False
    for name, item in value.items():
        is_type = name == "dtype" or (name == "name" and value.keys() == {"name"})
        if is_type and isinstance(item, str) and item in _SMALL_FLOATS:
            mended[name], changed = "float32", True
        else:
            mended[name], inner = in_float32(item)
            changed |= inner
    return mended, changed


def for_keras3(value: Any) -> Any:
    """A copy of a configuration of Keras 2 without what Keras 3 does not accept."""
    if isinstance(value, list):
        return [for_keras3(item) for item in value]
    if not isinstance(value, dict):
        return value
    mended = {name: for_keras3(item) for name, item in value.items()}
    inner = mended.get("config")
    if isinstance(inner, dict) and isinstance(mended.get("class_name"), str):
        mended["class_name"] = mended["class_name"].removesuffix("V1").removesuffix("V2")
        if mended["class_name"] == "Functional" and "module" in mended:
            mended["module"] = "keras.src.models.functional"
        mended["config"] = _known_arguments(mended["class_name"], inner)
    return mended


def scaling_layers(config: dict[str, Any]) -> list[str]:
    """The classes of the layers that scale pixels."""
    return sorted({part["class_name"] for part, _ in _parts(config, "") if part["class_name"] in _SCALING})


def _known_arguments(class_name: str, config: dict[str, Any]) -> dict[str, Any]:
    import keras  # noqa: PLC0415 - takes seconds

    kind = getattr(keras.layers, class_name, None)
    if kind is None:
        return config
    if class_name == "BatchNormalization" and isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
        config = config | {"axis": config["axis"][0]}
    if isinstance(config.get("dtype"), dict):
        config = config | {"dtype": "float32"}
    known = set(inspect.signature(kind.__init__).parameters) | set(inspect.signature(keras.layers.Layer).parameters)
    known |= {"batch_input_shape", "batch_shape", "name", "trainable", "dtype"}
    if class_name != "InputLayer":  # it comes first, and has the shape
        config = {name: value for name, value in config.items() if name != "batch_input_shape"}
    return {name: value for name, value in config.items() if name in known or value not in _NO_EFFECT}


def _parts(value: Any, layer: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Every object in a configuration, and the name of the layer to which it belongs."""
    if isinstance(value, list):
        for item in value:
            yield from _parts(item, layer)
    elif isinstance(value, dict):
        if "class_name" in value:
            inner = value.get("config")
            name = value.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
            layer = name if isinstance(name, str) and name else layer
            yield value, layer
        for item in value.values():
            yield from _parts(item, layer)


def _foreign(  # noqa: PLR0911 - one for each case
    part: dict[str, Any], layer: str, allowed: frozenset[str]
) -> Foreign | None:
    kind, module, registered = part["class_name"], part.get("module"), part.get("registered_name")
    where = layer or "network"
    if not all(isinstance(name, str | None) for name in (kind, module, registered)) or kind is None:
        return Foreign(where, "an object without a name", is_code=True)
    if kind in _VALUES:
        return None
    if kind == "function":
        return _foreign_function(part, where)
    if kind in _KERAS2_CALLS and kind in allowed:
        return _foreign_call(part, where)
    if kind == "__lambda__" or kind in _FORBIDDEN:
        return Foreign(where, "a Python function" if kind == "__lambda__" else kind, is_code=True)
    is_keras = module is None or module == "keras" or module.startswith(("keras.", "tf_keras."))
    if not is_keras or registered not in (None, kind):
        return Foreign(where, registered or kind, is_code=False)
    if kind in allowed or _is_operation(module, kind):
        return None
    return Foreign(where, kind, is_code=module is not None)


def _foreign_function(part: dict[str, Any], where: str) -> Foreign | None:
    import keras  # noqa: PLC0415

    name, module = part.get("config"), part.get("module")
    if module in (None, "builtins", "keras.activations") and isinstance(name, str):
        if inspect.isfunction(getattr(keras.activations, name, None)):
            return None
        return Foreign(where, f"the function {name}", is_code=False)
    return Foreign(where, f"the function {name}", is_code=module is not None and module.startswith("keras"))


def _foreign_call(part: dict[str, Any], where: str) -> Foreign | None:
    config = part.get("config")
    name = config.get("function") if isinstance(config, dict) else None
    if part["class_name"] == "SlicingOpLambda":
        name = name or "__operators__.getitem"
    if isinstance(name, str) and (name in _KERAS2_NAMES or name.startswith(_KERAS2_FUNCTIONS)):
        return None
    return Foreign(where, f"the function {name} of TensorFlow", is_code=True)


def _is_operation(module: str | None, kind: str) -> bool:
    if module not in _OPERATIONS and not (module == _CORE and kind in _CORE_OPERATIONS):
        return False
    found = getattr(importlib.import_module(module), kind, None)
    return inspect.isclass(found) and found.__module__ == module


def _allowed_names() -> frozenset[str]:
    import keras  # noqa: PLC0415

    places = (keras.layers, keras.initializers, keras.regularizers, keras.constraints)
    names = {name for place in places for name, item in vars(place).items() if inspect.isclass(item)}
    return frozenset((names | _NETWORKS | _POLICIES) - _FORBIDDEN)
