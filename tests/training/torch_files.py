"""Writes weights files in PyTorch's old format, as PyTorch 1.4 did, without PyTorch."""

import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

HEADER = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})


def _named(module: str, name: str) -> Any:
    """A function that is pickled under the name of one of PyTorch's."""

    def function() -> None: ...

    function.__module__, function.__name__, function.__qualname__ = module, name, name
    return function


_REBUILD, _FLOATS = _named("torch._utils", "_rebuild_tensor_v2"), _named("torch", "FloatStorage")


class _Storage:
    def __init__(self, key: str, count: int) -> None:
        self.reference = ("storage", _FLOATS, key, "cpu", count, None)


class _Tensor:
    def __init__(self, key: str, values: NDArray[np.float32], shape: tuple[int, ...]) -> None:
        strides = tuple(stride // values.itemsize for stride in values.strides)
        self._arguments = (_Storage(key, values.size), 0, shape, strides, False, OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return _REBUILD, self._arguments


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.reference if isinstance(obj, _Storage) else None


def write_torch_file(
    path: Path,
    tensors: Mapping[str, NDArray[np.float32]],
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write the tensors with the strides of the arrays.

    Args:
        path: the file.
        tensors: the arrays by name.
        shapes: shapes that the file states instead of the true ones.
        extra: other objects to put beside the tensors.
    """
    stated = {name: (shapes or {}).get(name, values.shape) for name, values in tensors.items()}
    content = OrderedDict({name: _Tensor(name, values, stated[name]) for name, values in tensors.items()})
    modules = {"torch": ModuleType("torch"), "torch._utils": ModuleType("torch._utils")}
    modules["torch"].FloatStorage = _FLOATS  # type: ignore[attr-defined]
    modules["torch._utils"]._rebuild_tensor_v2 = _REBUILD  # type: ignore[attr-defined]
    with path.open("wb") as file, mock.patch.dict(sys.modules, modules):
        for part in HEADER:
            pickle.dump(part, file, protocol=2)
        _Pickler(file, protocol=2).dump(OrderedDict({**content, **(extra or {})}))
        pickle.dump(list(tensors), file, protocol=2)
        for values in tensors.values():
            in_memory_order = values.transpose(np.argsort(values.strides)[::-1])
            file.write(struct.pack("<q", values.size) + in_memory_order.tobytes())
    return path
