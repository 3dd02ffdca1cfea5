"""`python -m benchmarks`: measure, print the table, write bench.json."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import profile, report, side_parts
from benchmarks.parts import FULL, QUICK, TINY, Run, auto, names, serving, shipped, two_workers
from benchmarks.service import ROOT, BenchmarkError

PARTS: dict[str, Callable[[Run], None]] = names(
    [
        serving,
        shipped,
        auto,
        side_parts.bulk,
        side_parts.submit,
        side_parts.backlog,
        side_parts.waiters,
        side_parts.start_up,
        two_workers,
        profile.profiled,
    ]
)
_SCALES = {"full": FULL, "quick": QUICK, "tiny": TINY}
_EXAMPLES = """examples:
  python -m benchmarks                         everything, 3 rounds, about 10 minutes
  python -m benchmarks --scale quick           about 2 minutes
  python -m benchmarks --only serving bulk     some parts; the others keep their figures in bench.json"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for; the exit status is 0 whatever the figures: timings decide nothing."""
    given = _parser().parse_args(arguments)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="pawqueue-bench-") as folder:
        run = Run(Path(folder), _SCALES[given.scale], ROOT / "models" / "cats-dogs")
        run.say = console.print
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
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scale", choices=sorted(_SCALES), default="full")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
