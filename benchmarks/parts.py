"""The parts of the benchmark: each starts what it needs, measures, and says its figures by the names of `goals.py`."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.service import ROOT, BareProcess, Service, bare_process, service
from contract.cores import usable_cores


@dataclass(frozen=True)
class Scale:
    """How long everything takes."""

    rounds: int
    seconds: float
    files: int
    backlog: int
    waiters: int
    starts: int


FULL = Scale(rounds=3, seconds=6, files=2000, backlog=100_000, waiters=1000, starts=3)
QUICK = Scale(rounds=1, seconds=3, files=200, backlog=3000, waiters=200, starts=1)
TINY = Scale(rounds=1, seconds=0.5, files=16, backlog=100, waiters=20, starts=1)


@dataclass
class Run:
    """One run of the benchmark: where it works, how long, and what it has found so far."""

    folder: Path
    scale: Scale
    shipped: Path
    #: Name -> value of each round.
    figures: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, list[Any]] = field(default_factory=dict)
    say: Callable[[str], None] = print

    @cached_property
    def model(self) -> Path:
        """The yardstick's network, baseline_cnn with random weights."""
        out = self.folder / "baseline-cnn"
        command = [sys.executable, "-m", "training.release.untrained", "--out", str(out)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return out

    def add(self, name: str, value: float, **details: Any) -> None:
        """Keep one measured value."""
        self.figures.setdefault(name, []).append(value)
        if details:
            self.details.setdefault(name, []).append(details)
        self.say(f"  {name} {value:.3g}")

    def room(self, name: str) -> Path:
        """A folder for one stack."""
        return self.folder / name


#: Clients and modes of the usual rows.
_LOADS = ((1, "wait"), (8, "wait"), (32, "wait"), (128, "wait"), (32, "poll"))


def serving(run: Run) -> None:
    """Images a second with various clients, baseline_cnn in float32, round after round beside the bare loop."""
    with _both(run, "serving", run.model, "float32") as (stack, bare):
        for _ in range(run.scale.rounds):
            loop = bare.ask("loop", run.scale.seconds)
            run.add("bare", loop["images_per_s"], **loop)
            single = bare.ask("single", 30)
            for clients, mode in _LOADS:
                found = stack.load("--clients", clients, "--mode", mode, "--seconds", run.scale.seconds)
                run.add(f"{mode}-{clients}", found["images_per_s"] / loop["images_per_s"], **found)
                if (clients, mode) == (1, "wait"):
                    run.add("latency-1", found["p50_ms"] / single["p50_ms"], bare_ms=single["p50_ms"], **found)
                if (clients, mode) == (32, "wait"):
                    run.add("tail-32", found["p99_ms"] / found["p50_ms"])


def shipped(run: Run) -> None:
    """The shipped model in float32."""
    _compare(run, "shipped-32", run.shipped, "float32", "float32")


def auto(run: Run) -> None:
    """Precision `auto`, to a bare loop of the precision that it settles on."""
    from worker.runtime import processor_has_bfloat16  # noqa: PLC0415 - only this part asks the worker

    precision = "bfloat16" if processor_has_bfloat16() else "float32"
    _compare(run, "auto-32", run.model, "auto", precision)
    _compare(run, "auto-shipped-32", run.shipped, "auto", precision)


def two_workers(run: Run) -> None:
    """Two worker processes with half of the cores each, to one with all of them, in the same stack."""
    cores = usable_cores()
    with service(run.room("two"), workers=0, model=run.model, precision="float32") as stack:

        def images_per_s(workers: int) -> float:
            with ExitStack() as running:
                for _ in range(workers):
                    running.enter_context(stack.worker(cores=max(1, cores // workers)))
                stack.load("--clients", 64, "--seconds", run.scale.seconds)  # the first batches run in one piece
                found: float = stack.load("--clients", 64, "--seconds", run.scale.seconds)["images_per_s"]
                return found

        for _ in range(run.scale.rounds):
            one, two = images_per_s(1), images_per_s(2)
            run.add("two-workers", two / one, one=one, two=two)


def _compare(run: Run, name: str, model: Path, precision: str, bare_precision: str) -> None:
    with _both(run, name, model, precision, bare_precision) as (stack, bare):
        for _ in range(run.scale.rounds):
            loop = bare.ask("loop", run.scale.seconds)
            found = stack.load("--clients", 32, "--seconds", run.scale.seconds)
            run.add(name, found["images_per_s"] / loop["images_per_s"], bare=loop, **found)


@contextmanager
def _both(
    run: Run, name: str, model: Path, precision: str, bare_precision: str = ""
) -> Iterator[tuple[Service, BareProcess]]:
    """A service and the bare loop, both ready and warm."""
    with (
        service(run.room(name), model=model, precision=precision) as stack,
        bare_process(run.room(name), model, bare_precision or precision) as bare,
    ):
        stack.load("--clients", 32, "--seconds", 1)
        yield stack, bare


def names(parts: Sequence[Callable[[Run], None]]) -> dict[str, Callable[[Run], None]]:
    """Parts by the name under which the command line knows them."""
    return {part.__name__.replace("_", "-"): part for part in parts}
