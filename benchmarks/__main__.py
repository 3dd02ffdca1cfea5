"""`python -m benchmarks` measures the service, prints a table, and writes bench.json."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks import parts, profile, report, steps
from benchmarks.parts import FULL, QUICK, TINY, Run
from benchmarks.peers import contest
from benchmarks.processes import ROOT, BenchmarkError

PARTS: dict[str, Callable[[Run], None]] = {
    "serving": parts.serving,
    "shipped": parts.shipped,
    "auto": parts.auto,
    "bulk": parts.bulk,
    "submit": parts.submit,
    "backlog": parts.backlog,
    "waiters": parts.waiters,
    "start-up": parts.start_up,
    "two-workers": parts.two_workers,
    "shadow": parts.shadow,
    "profiled": profile.profiled,
    "steps": steps.steps,
    "peers": contest.peers,
    "peers-shipped": contest.peers_shipped,
}
#: Not part of a run without `--only`: they download other model servers.
_ON_REQUEST = ("peers", "peers-shipped")
_SCALES = {"full": FULL, "quick": QUICK, "tiny": TINY}
_EXAMPLES = """examples:
  python -m benchmarks                         all parts except peers, 3 rounds, about 10 minutes
  python -m benchmarks --scale quick           about 2 minutes
  python -m benchmarks --only serving bulk     only these parts; bench.json keeps the figures of the others
  python -m benchmarks --only peers --rounds 5 compare with other model servers, which are installed in .cache/peers"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen parts; the exit status does not depend on the figures."""
    given = _parser().parse_args(arguments)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="pawqueue-bench-") as folder:
        scale = _SCALES[given.scale]
        scale = replace(scale, rounds=given.rounds or scale.rounds)
        run = Run(Path(folder), scale, ROOT / "models" / "cats-dogs", log=console.print)
        for name in given.only:
            began_s = time.perf_counter()
            console.print(f"{name}: {(PARTS[name].__doc__ or '').splitlines()[0]}")
            try:
                PARTS[name](run)
            except (BenchmarkError, subprocess.CalledProcessError) as error:
                console.print(f"  {name} could not be measured: {error}", style="red")
                return 1
            report.write(given.out, run)
            console.print(f"  took {time.perf_counter() - began_s:.0f} s", style="dim")
        report.show(report.write(given.out, run), Console())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the service against a bare loop, print a table, and write bench.json.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scale", choices=sorted(_SCALES), default="full")
    default = [name for name in PARTS if name not in _ON_REQUEST]
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=default, metavar="PART")
    parser.add_argument("--rounds", type=int, help="instead of the 3 rounds of `full`, or the 1 of the others")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
