"""`python -m benchmarks.gpu` measures each installed backend on a GPU, and writes gpu.json and gpu.md."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.gpu import devices, table
from benchmarks.gpu.measure import BACKENDS, NETWORKS, measure
from benchmarks.parts import FULL, TINY, Run
from benchmarks.processes import ROOT, BenchmarkError
from benchmarks.report import machine

_SCALES = {"full": FULL, "tiny": TINY}
_EXAMPLES = """examples:
  python -m benchmarks.gpu                              all backends and networks, about 10 minutes
  python -m benchmarks.gpu --backends jax --rounds 5    one backend
  python -m benchmarks.gpu --cpu --scale tiny           try the script without a GPU"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns 2 if there is no GPU or no backend that can use it."""
    given = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        gpus = [] if given.cpu else devices.find_gpus()
        usable, left_out = devices.usable_backends(given.backends, on_gpu=not given.cpu)
    except devices.NoGpuError as error:
        print(error, file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    found = {"machine": machine(), "gpus": [gpu.text for gpu in gpus], "rows": rows, "left_out": left_out}
    with tempfile.TemporaryDirectory(prefix="pawqueue-gpu-") as folder:
        scale = _SCALES[given.scale]
        scale = replace(scale, rounds=given.rounds or scale.rounds)
        run = Run(Path(folder), scale, ROOT / "models" / "cats-dogs", log=console.print)
        for backend in usable:
            for network in given.networks:
                console.print(f"{network} on {backend}")
                try:
                    rows.append(measure(run, backend, network, given.size, on_gpu=not given.cpu))
                except (BenchmarkError, subprocess.CalledProcessError) as error:
                    console.print(f"  could not be measured: {error}", style="red", markup=False)
                    left_out[f"{network} on {backend}"] = str(error).splitlines()[0]
                given.out.write_text(json.dumps(found, indent=1) + "\n")
    text = table.markdown(found)
    given.out.with_suffix(".md").write_text(text + "\n")
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
    return 0 if rows else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="Measure the service on a GPU against a bare loop on the same GPU; write gpu.json and gpu.md.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--size", type=int, default=224, help="height and width of the input in pixels")
    parser.add_argument("--scale", choices=sorted(_SCALES), default="full")
    parser.add_argument("--rounds", type=int, help="instead of the 3 rounds of `full`, or the 1 of `tiny`")
    parser.add_argument("--cpu", action="store_true", help="run without a GPU, to try the script")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
