"""The network to import, whatever its file was: what it takes and returns, and how to run it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from importer import graph
from importer.request import ImportFailedError

#: Maximum difference between outputs of the same network in two forms, relative to the larger of 1 and the output.
_SAME = 1e-4


@dataclass(frozen=True)
class Form:
    """What a network takes: images of this size, in this layout."""

    height: int
    width: int
    channels: int
    layout: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        if self.layout == "HW":
            return self.height, self.width
        if self.layout == "CHW":
            return self.channels, self.height, self.width
        return self.height, self.width, self.channels


@dataclass(frozen=True)
class Network:
    """A network with one input, and the output that was chosen."""

    #: Of the model, for the version.
    name: str
    form: Form
    #: With constant weights, in float32; outputs the raw values.
    graph_def: Any
    #: The network in Keras 3; None if it can only be served as a graph.
    model: Any
    #: The loss with which it was trained; None if unknown.
    loss: Any = None
    #: Scaling layers, if its configuration is known.
    scaling_layers: tuple[str, ...] = ()
    #: What is worth telling.
    notes: tuple[str, ...] = ()
    unsafe_operations: tuple[str, ...] = ()

    @cached_property
    def _run(self) -> Callable[[NDArray[np.floating]], NDArray[np.floating]]:
        return graph.runner(self.graph_def)

    def raw(self, inputs: NDArray[np.floating]) -> NDArray[np.floating]:
        """The outputs, float32 (images, units), for inputs in the form of the network."""
        return self._run(inputs).astype(np.float32).reshape(len(inputs), -1)

    def last_operation(self) -> str:
        """The operation that computes the output."""
        return graph.last_operation(self.graph_def)

    def scaling(self) -> list[str]:
        """What scales the pixels inside the network; empty if nothing does."""
        return list(self.scaling_layers) or graph.scaling_operations(self.graph_def)


def read_form(shape: Sequence[int | None], size: tuple[int, int] | None) -> Form:
    """The form of a network whose input has this shape, without the batch; `size` is for sides that it leaves open.

    Raises:
        ImportFailedError: it takes something else than images, or its size is open or another one.
    """
    shown = f"({', '.join(str(side) if side else 'any' for side in shape)})"
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)):
        layout, sides, channels = "HW" if len(shape) == 2 else "HWC", shape[:2], shape[2] if len(shape) == 3 else 1
    elif len(shape) == 3 and shape[0] in (1, 3):
        layout, sides, channels = "CHW", shape[1:], shape[0]
    else:
        raise ImportFailedError(
            f"The network takes inputs of shape {shown}; images have (height, width, 3), (height, width, 1), (height, "
            "width), (3, height, width) or (1, height, width)."
        )
    if size is None:
        if None in sides:
            raise ImportFailedError(
                f"The network takes images of any size: pass --size HEIGHTxWIDTH, as in its training (shape {shown})."
            )
        size = (int(sides[0] or 0), int(sides[1] or 0))
    if any(side not in (None, given) for side, given in zip(sides, size, strict=True)):
        raise ImportFailedError(f"--size {size[0]}x{size[1]}: the network takes inputs of shape {shown} only.")
    if min(size) < 8 or max(size) > 4096:
        raise ImportFailedError(f"The network takes images of {size[0]} x {size[1]} pixels; 8 to 4096 are supported.")
    return Form(*size, int(channels or 1), layout)


def output_names(model: Any) -> list[str]:
    """The names of the outputs of a model of Keras 2 or 3. A Sequential one has no names, but only one output."""
    return [str(name) for name in getattr(model, "output_names", ["output"])]


def choose_output(names: Sequence[str], wanted: str | None) -> int:
    """The number of the output to use.

    Raises:
        ImportFailedError: there are several and the user names none, or an unknown one.
    """
    if wanted is not None and wanted not in names:
        raise ImportFailedError(f"--output {wanted}: the network has the outputs {', '.join(names)}.")
    if wanted is None and len(names) > 1:
        raise ImportFailedError(f"The network has several outputs: pass --output with one of {', '.join(names)}.")
    return names.index(wanted) if wanted is not None else 0


def from_graph(
    name: str, graph_def: Any, form: Form, shown: str, *, trusted: bool, notes: Sequence[str] = ()
) -> Network:
    """A network that is served as a graph."""
    graph_def = graph.for_cpus(graph_def)
    unsafe = tuple(graph.require_pure(graph_def, shown, trusted=trusted))
    return Network(name, form, graph_def, None, notes=tuple(notes), unsafe_operations=unsafe)


def from_keras(model: Any, size: tuple[int, int] | None, output: str | None) -> Network:
    """A network of Keras 3.

    Raises:
        ImportFailedError: it has another form, or several inputs or outputs.
    """
    inputs = model.inputs
    if not inputs:
        raise ImportFailedError("The network has no input shape: call it on an image before you save it.")
    if len(inputs) > 1:
        shown = ", ".join(str(tensor.name) for tensor in inputs)
        raise ImportFailedError(f"The network has several inputs ({shown}); an image classifier has one.")
    form = read_form(inputs[0].shape[1:], size)
    at = choose_output(output_names(model), output)
    if len(model.outputs) > 1:
        model = keras.Model(inputs, model.outputs[at], name=model.name)
    graph_def = graph.freeze(
        lambda pixels: keras.tree.flatten(model(pixels, training=False))[0], form.shape, inputs[0].dtype
    )
    return Network(str(model.name), form, graph.for_cpus(graph_def), model)


def are_equal(one: NDArray[np.floating], other: NDArray[np.floating]) -> bool:
    """Whether two outputs are the same but for rounding."""
    return one.shape == other.shape and bool(np.all(np.abs(one - other) <= _SAME * np.maximum(1, np.abs(one))))
