"""Reads the tensors of a PyTorch weights file without PyTorch, and without running code from it.

The file is in the format that PyTorch used until 1.5: several pickles, followed by the raw data. Unpickling normally
calls any function that the file names; this reader accepts only the names that a plain dictionary of tensors needs.
"""

import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_TYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
#: No supported backbone is larger.
_MAX_BYTES = 200_000_000


class TorchFileError(Exception):
    """The file cannot be read as a dictionary of tensors; the message gives the reason."""


def read_torch_file(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors in the file by name: float32 or int64 arrays that own their data.

    Raises:
        OSError: the file cannot be opened.
        TorchFileError: it is not such a file, is damaged, or contains anything but tensors.
    """
    with path.open("rb") as file:
        if path.stat().st_size > _MAX_BYTES:
            raise TorchFileError(f"it is larger than {_MAX_BYTES // 10**6} MB")
        try:
            return _read(file)
        except TorchFileError:
            raise
        except Exception as error:  # a damaged pickle can raise anything
            raise TorchFileError(f"it is damaged or in another format: {type(error).__name__}: {error}") from error


def _read(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    magic, protocol, system = (_Unpickler(file).load() for _ in range(3))
    if (magic, protocol) != (_MAGIC, _PROTOCOL) or not system["little_endian"]:
        raise TorchFileError("it is not a PyTorch file of the format used until PyTorch 1.5")
    content = _Unpickler(file)
    tensors = content.load()
    for key in _Unpickler(file).load():
        content.storages[key].read(file)
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise TorchFileError("it contains something else than a dictionary of tensors")
    return {str(name): tensor.array() for name, tensor in tensors.items()}


class _Storage:
    """The numbers that one or more tensors show. They follow after all pickles."""

    def __init__(self, kind: str, count: int) -> None:
        self._type, self._count = _TYPES[kind], count
        self.data = b""

    def read(self, file: IO[bytes]) -> None:
        (count,) = struct.unpack("<q", file.read(8))
        size = count * self._type.itemsize
        self.data = file.read(size) if count == self._count else b""
        if not size or len(self.data) != size:
            raise TorchFileError("it is cut off or damaged")

    def array(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[Any]:
        # NumPy raises an error if the shape and the strides reach beyond the data.
        width = self._type.itemsize
        steps = [stride * width for stride in strides]
        return np.ndarray(shape, self._type, self.data, offset * width, steps).copy()


class _Tensor:
    """Where the numbers of a tensor are: called by the pickle instead of PyTorch's function."""

    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_gradient: object
    ) -> None:
        self._storage, self._place = storage, (offset, shape, strides)

    def array(self) -> NDArray[Any]:
        return self._storage.array(*self._place)


class _Unpickler(pickle.Unpickler):
    _ALLOWED = {  # noqa: RUF012 (never changed)
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        **{("torch", name): name for name in _TYPES},
    }

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise TorchFileError(f"it names {module}.{name}, which a weights file does not need") from None

    def persistent_load(self, reference: Any) -> _Storage:
        _, kind, key, _device, count, view = reference
        if view is not None:
            raise TorchFileError("it contains a view of a storage, which is not supported")
        return self.storages.setdefault(key, _Storage(kind, count))
