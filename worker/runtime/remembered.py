"""Remembers the strategies that a worker has measured, so that later starts need not measure again."""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from contract.ledger.types import ChosenStrategy
from contract.log import get_logger

_log = get_logger(__name__)

#: Variables that select the code of oneDNN, TensorFlow, OpenMP and XLA, or its threads.
_PREFIXES = (
    *("DNNL_", "OMP_", "ONEDNN_", "XLA_"),
    *("TF_ENABLE_", "TF_NUM_", "TF_ONEDNN_", "TF_OVERRIDE_", "TF_XLA_"),  # others, such as TF_VAR_, are of Terraform
)
_LIBRARIES = ("tensorflow", "tensorflow-cpu", "keras", "jax", "jaxlib", "torch", "numpy")
#: CPU flags for native bfloat16 multiplication (x86-64, 64-bit Arm).
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_CPUINFO = Path("/proc/cpuinfo")


class Found(BaseModel):
    """What was measured under a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: dict[str, Any]
    precision: str
    strategies: tuple[ChosenStrategy, ...]


class Remembered:
    """The strategies in `folder`: a file for each key, which only its owner can read. Workers may share the folder."""

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self._key = dict(key)
        self._path = folder / f"{hashlib.sha256(json.dumps(self._key, sort_keys=True).encode()).hexdigest()[:32]}.json"

    def read(self) -> Found | None:
        """What was measured under this key; None if there is nothing, or if the file is damaged."""
        try:
            found = Found.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            _log.warning(
                "Measuring again: the remembered strategies cannot be read", file=str(self._path), exc_info=error
            )
            return None
        return found if found.key == self._key else None

    def write(self, precision: str, strategies: Sequence[ChosenStrategy]) -> None:
        """Replace what is remembered under this key; without effect if the folder cannot be written."""
        found = Found(key=self._key, precision=precision, strategies=tuple(strategies))
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=".", suffix=".tmp")  # with mode 0600
        except OSError as error:
            _log.warning("The strategies are not remembered", folder=str(self._path.parent), reason=error.strerror)
            return
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(found.model_dump_json(indent=1) + "\n")
            Path(name).replace(self._path)
        except OSError as error:
            _log.warning("The strategies are not remembered", folder=str(self._path.parent), reason=error.strerror)
            with suppress(OSError):
                Path(name).unlink()


def key_of(cpuinfo: Path = _CPUINFO, environ: Mapping[str, str] = os.environ, **facts: Any) -> dict[str, Any]:
    """What a measurement depends on: the processor, the versions, the variables that change them, and `facts`."""
    return {
        "processor": _field(cpuinfo, "model name") or platform.processor() or platform.machine(),
        "flags": _digest(" ".join(sorted(_flags(cpuinfo)))),
        "environment": {name: environ[name] for name in sorted(environ) if name.startswith(_PREFIXES)},
        "versions": {name: found for name in _LIBRARIES if (found := _version(name))},
        "runtime": _digest(*(path.read_text() for path in sorted(Path(__file__).parent.glob("*.py")))),
        **facts,
    }


def processor_has_bfloat16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether this processor multiplies bfloat16 natively; False if it cannot be determined."""
    return bool(_BFLOAT16_FLAGS & _flags(cpuinfo))


def _flags(cpuinfo: Path) -> set[str]:
    return set((_field(cpuinfo, "flags") or _field(cpuinfo, "Features")).split())


def _field(cpuinfo: Path, name: str) -> str:
    """The first value of this name; empty if there is none."""
    with suppress(OSError):
        for line in cpuinfo.read_text().splitlines():
            found, _, value = line.partition(":")
            if found.strip() == name:
                return value.strip()
    return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
