"""Measures one network on one backend: the service against the bare loop, and two workers that share the GPU."""

import os
import subprocess
import sys
from statistics import median
from typing import Any

from benchmarks.gpu.devices import find_gpus
from benchmarks.parts import Run
from benchmarks.processes import ROOT
from benchmarks.service import bare_loop, service

BACKENDS = ("tensorflow", "jax", "torch")
#: The module that writes each network as a bundle.
NETWORKS = {"baseline_cnn": "training.release.untrained", "resnet50": "benchmarks.gpu.resnet"}
_CLIENTS = (32, 128)
_SHARING_CLIENTS = 64


def measure(run: Run, backend: str, network: str, size: int, *, on_gpu: bool) -> dict[str, Any]:
    """One row of the table; memory is None without a GPU."""
    # As workers do, the bare loop allocates GPU memory as needed, so that both fit.
    environ = {
        "KERAS_BACKEND": backend,
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    model = run.folder / f"{network}-{backend}"
    command = [sys.executable, "-m", NETWORKS[network], "--out", str(model), "--size", str(size)]
    subprocess.run(command, cwd=ROOT, env=os.environ | environ, check=True, capture_output=True)
    row: dict[str, Any] = {"backend": backend, "network": network}
    before_mib = _used_mib() if on_gpu else 0
    folder = run.folder / f"service-{network}-{backend}"
    with service(folder, workers=0, model=model, precision="float32", backend=backend) as stack:

        def images_per_s(clients: int) -> float:
            rate: float = stack.load("--clients", clients, "--seconds", run.scale.seconds)["images_per_s"]
            return rate

        with stack.worker():
            stack.load("--clients", 32, "--seconds", run.scale.seconds)
            one = images_per_s(_SHARING_CLIENTS)
            row["one_worker_mib"] = _used_mib() - before_mib if on_gpu else None
            with stack.worker():
                stack.load("--clients", 32, "--seconds", run.scale.seconds)
                row["two_workers_ratio"] = images_per_s(_SHARING_CLIENTS) / one
                row["two_workers_mib"] = _used_mib() - before_mib if on_gpu else None
            rates: dict[str, list[float]] = {"bare": [], **{str(count): [] for count in _CLIENTS}}
            with bare_loop(folder, model, "float32", environ) as bare:
                for _ in range(run.scale.rounds):
                    loop = bare.measure("loop", run.scale.seconds)["images_per_s"]
                    rates["bare"].append(loop)
                    for count in _CLIENTS:
                        rates[str(count)].append(images_per_s(count) / loop)
    row |= {"bare_images_per_s": median(rates["bare"]), "ratios": {str(count): rates[str(count)] for count in _CLIENTS}}
    run.log(f"  {row}")
    return row


def _used_mib() -> int:
    """Memory used on all GPUs. It includes other programs, so callers compare it with an earlier value."""
    return sum(gpu.used_mib for gpu in find_gpus())
