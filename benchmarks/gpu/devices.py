"""Finds the GPUs, the memory used on them, and the backends that can use them."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

_QUERY = ("--query-gpu=name,driver_version,memory.total,memory.used", "--format=csv,noheader,nounits")
_QUERY_S = 30
#: A program for each backend that prints the number of GPUs that it can use.
_COUNT = {
    "tensorflow": "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))",
    "jax": "import jax; print(sum(device.platform == 'gpu' for device in jax.devices()))",
    "torch": "import torch; print(torch.cuda.device_count())",
}


class NoGpuError(Exception):
    """Nothing can be measured; the message says what is missing."""


@dataclass(frozen=True)
class Gpu:
    """A GPU as `nvidia-smi` lists it; memory in MiB."""

    name: str
    driver: str
    total_mib: int
    used_mib: int

    @property
    def text(self) -> str:
        """Name, memory and driver."""
        return f"{self.name}, {self.total_mib / 1024:.0f} GiB, driver {self.driver}"


def find_gpus() -> list[Gpu]:
    """The GPUs of this machine.

    Raises:
        NoGpuError: there is none, or its driver does not respond.
    """
    try:
        done = subprocess.run(
            ["nvidia-smi", *_QUERY], capture_output=True, text=True, timeout=_QUERY_S, check=True, errors="replace"
        )
        gpus = parse_gpus(done.stdout)
    except FileNotFoundError:
        raise NoGpuError(_missing("nvidia-smi is not installed")) from None
    except (subprocess.SubprocessError, OSError, ValueError):
        raise NoGpuError(_missing("nvidia-smi lists none")) from None
    if not gpus:
        raise NoGpuError(_missing("nvidia-smi lists none"))
    return gpus


def parse_gpus(text: str) -> list[Gpu]:
    """The GPUs in the output of `nvidia-smi`, one per line."""
    rows = [[cell.strip() for cell in line.rsplit(",", 3)] for line in text.splitlines() if line.strip()]
    return [Gpu(name, driver, int(total), int(used)) for name, driver, total, used in rows]


def usable_backends(wanted: Sequence[str], *, on_gpu: bool) -> tuple[list[str], dict[str, str]]:
    """Those of `wanted` that are installed and can use a GPU, and for each other one the reason.

    Raises:
        NoGpuError: none can.
    """
    usable, left_out = [], {}
    for name in wanted:
        done = subprocess.run([sys.executable, "-c", _COUNT[name]], capture_output=True, text=True, check=False)
        if done.returncode:
            left_out[name] = "not installed"
        elif on_gpu and done.stdout.split()[-1:] == ["0"]:
            left_out[name] = "this build cannot use the GPU"
        else:
            usable.append(name)
    if not usable:
        reasons = ", ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise NoGpuError(f"No backend can be measured ({reasons}): install one as docs/performance.md describes.")
    return usable, left_out


def _missing(reason: str) -> str:
    return (
        f"No GPU found ({reason}): run this on a machine with an NVIDIA GPU and its driver, "
        "or add --cpu to try the script."
    )
