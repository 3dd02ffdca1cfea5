"""Builds the network of a Keras file: with Keras 3, or if Keras 2 wrote it, with `tf-keras`.

A network of Keras 2 is then rebuilt in Keras 3, if that gives the same outputs; otherwise it is served as a graph.
"""

import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

from importer import graph
from importer.keras_config import for_keras3, foreign_parts, in_float32, refuse, scaling_layers, uncompiled
from importer.keras_file import KerasFile
from importer.network import Form, Network, are_equal, choose_output, from_graph, from_keras, output_names, read_form
from importer.request import ImportFailedError, Request


def build(file: KerasFile, request: Request, folder: Path) -> Network:
    """The network of a file; `folder` is for temporary files.

    Raises:
        ImportFailedError: it contains code that is not trusted, or cannot be built.
    """
    file = replace(file, config=uncompiled(file.config))
    foreign = foreign_parts(file.config, keras2=file.is_keras2)
    for part in foreign:
        if not (request.trust_code or (request.modules and not part.is_code)):
            is_unknown = part.is_code and not hasattr(keras.layers, part.kind)
            if is_unknown and _is_newer(file.keras_version, keras.__version__):
                raise _too_new(file, keras.__version__)
            raise refuse(file.shown, part)
    config, was_small = in_float32(file.config)
    copy = file.copy_with(config, folder)
    custom = _run_modules(request.modules)
    build_it = _with_keras2 if file.is_keras2 else _with_keras3
    network = build_it(file, copy, request, custom)
    notes = list(network.notes)
    if was_small:
        notes.append("The file is for 16-bit floats; the bundle computes in float32.")
    if foreign or network.form.layout == "CHW":
        network = replace(network, model=None)
    if network.model is None:
        why = "Keras 3 cannot build it"
        if foreign or network.form.layout == "CHW":
            why = "it has custom code" if foreign else "it takes channels first, which CPUs cannot run"
        notes.append(f"The network is kept as a TensorFlow graph in float32, because {why}.")
    return replace(network, notes=tuple(notes), loss=file.loss, scaling_layers=tuple(scaling_layers(file.config)))


def _with_keras3(file: KerasFile, copy: Path, request: Request, custom: dict[str, Any]) -> Network:
    def read() -> Any:
        return keras.saving.load_model(copy, custom, compile=False, safe_mode=not request.trust_code)

    network = from_keras(_load(file, read, keras.__version__), request.size, request.output)
    unsafe = graph.require_pure(network.graph_def, file.shown, trusted=request.trust_code)
    notes = []
    if _is_newer(file.keras_version, keras.__version__):
        notes.append(
            f"Keras {file.keras_version} saved the file; it was read with {keras.__version__}, which is older."
        )
    return replace(network, notes=tuple(notes), unsafe_operations=tuple(unsafe))


def _with_keras2(file: KerasFile, copy: Path, request: Request, custom: dict[str, Any]) -> Network:
    try:
        import tf_keras  # noqa: PLC0415 - takes seconds
    except ImportError as error:
        raise ImportFailedError(
            f"{file.shown} is a file of Keras {file.keras_version}, which the package tf-keras reads: run `make up` or "
            "`make demo` once to install it."
        ) from error

    def read() -> Any:
        return tf_keras.models.load_model(copy, custom, compile=False, safe_mode=not request.trust_code)

    model = _load(file, read, f"{tf_keras.__version__} of tf-keras")
    if len(model.inputs or ()) != 1:
        raise ImportFailedError(f"{file.shown}: the network has {len(model.inputs or ())} inputs; it needs one.")
    form = read_form(model.inputs[0].shape[1:], request.size)
    at = choose_output(output_names(model), request.output)

    def call(pixels: Any) -> Any:
        return tf.nest.flatten(model(pixels, training=False))[at]

    graph_def = graph.freeze(call, form.shape, model.inputs[0].dtype)
    network = from_graph(model.name, graph_def, form, file.shown, trusted=request.trust_code)
    if foreign_parts(file.config, keras2=False) or form.layout == "CHW" or len(model.outputs) > 1:
        rebuilt = None
    else:
        rebuilt = _in_keras3(model, copy.with_name("keras2.h5"), network, form)
    if rebuilt is None:
        return network
    return replace(network, model=rebuilt, notes=("Rebuilt in Keras 3; its outputs are those of Keras 2.",))


def _in_keras3(model: Any, path: Path, network: Network, form: Form) -> Any:
    """The network in Keras 3; None if that is impossible, or has other outputs."""
    # Keras can raise anything on a network that it cannot build.
    try:
        model.save(path, save_format="h5", include_optimizer=False)
        with h5py.File(path, "a") as file:
            config = for_keras3(json.loads(file.attrs["model_config"]))
            file.attrs["model_config"] = json.dumps(config).encode()
        rebuilt = keras.saving.load_model(path, compile=False, safe_mode=True)
        inputs = np.random.default_rng(0).uniform(-1, 1, (4, *form.shape)).astype(np.float32)
        found = [rebuilt.predict(part, verbose=0).reshape(len(part), -1) for part in (inputs, 255 * np.abs(inputs))]
        expected = [network.raw(part) for part in (inputs, 255 * np.abs(inputs))]
    except Exception:  # noqa: BLE001
        return None
    return rebuilt if all(map(are_equal, expected, found)) else None


def _run_modules(paths: Sequence[str]) -> dict[str, Any]:
    """Run Python files; returns the classes and functions that they define, by name.

    Raises:
        ImportFailedError: a file is missing, or fails.
    """
    found: dict[str, Any] = {}
    for text in paths:
        path = Path(text)
        if not path.is_file():
            raise ImportFailedError(f"--module {text}: no such file.")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportFailedError(f"--module {text}: not a Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        try:
            spec.loader.exec_module(module)
        # The user's code can raise anything.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ImportFailedError(f"--module {text} fails: {type(error).__name__}: {reason}.") from error
        found |= {
            name: item
            for name, item in vars(module).items()
            if (inspect.isclass(item) or inspect.isfunction(item)) and item.__module__ == module.__name__
        }
    return found


def _load(file: KerasFile, read: Callable[[], Any], version: str) -> Any:
    # Keras can raise anything on a file that it cannot read.
    try:
        return read()
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        if _is_newer(file.keras_version, keras.__version__):
            raise _too_new(file, version) from error
        raise ImportFailedError(
            f"{file.shown} was saved by Keras {file.keras_version}, and Keras {version} cannot build it ({reason}): if "
            "it uses your own layers or functions, pass --module FILE with the Python file that defines them."
        ) from error


def _too_new(file: KerasFile, version: str) -> ImportFailedError:
    return ImportFailedError(
        f"{file.shown} was saved by Keras {file.keras_version}, and the installed Keras {version} cannot read "
        f"it: save it with Keras {keras.__version__}, or update Pawqueue."
    )


def _is_newer(one: str, other: str) -> bool:
    return _numbers(one) > _numbers(other)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:3] if part.isdecimal()]
