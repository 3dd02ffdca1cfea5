"""Finds the fastest strategy for running a model on this processor, and runs each batch with it.

A strategy is a compiled call in a precision, and how a batch is divided among calls. Which one is fastest depends on
the processor, the network and the size of the batch, so a worker measures (decisions/095).
"""

import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from contract.ledger.types import ChosenStrategy
from contract.log import get_logger

_log = get_logger(__name__)

#: uint8 (batch, height, width, 3) to raw outputs (batch, units).
Call = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
#: `wide`: on all cores. `frozen`: the same with constant weights. `narrow`: constant weights, on one core, and several
#: threads may call it at once.
Kind = Literal["wide", "frozen", "narrow"]
Clock = Callable[[], float]
_Key = tuple[str, Kind]
#: Raises an exception if a call's outputs are wrong for the precision.
Check = Callable[[Call, str], None]

#: Maximum images in a part that one core predicts; the first is used if nothing was measured. The data between two
#: layers should fit in the CPU cache.
_PARTS = (8, 16, 4)
#: Maximum number of calls of a strategy for one batch size.
_ROUNDS = 8
#: The share of the remaining time that each batch size but the largest one may take.
_SHARE = 0.25
#: A strategy that takes longer than this many times the fastest one is not tried again.
_HOPELESS = 1.3
#: The same after the first call, which may include compilation.
_HOPELESS_AT_FIRST = 4.0
#: A strategy must take less than this share of the time of a simpler one to be preferred.
_CLEARLY = 0.97
#: A turn of a model that has all cores.
_ALONE = nullcontext()
#: Name of the thread that builds the calls of larger batches.
BUILDER_THREAD = "strategies"


class Network(Protocol):
    """A model in one precision."""

    #: The kinds of calls that it has, the simplest one first.
    kinds: Sequence[Kind]

    def build(self, kind: Kind) -> Call:
        """Compile a call; a second request for the same kind returns the same call."""


@dataclass(frozen=True, order=True)
class Strategy:
    """How a batch runs: in one call, or as parts that are predicted side by side, one on each core."""

    precision: str
    kind: Kind
    #: Maximum images in a part of a batch; 0 if the batch is one call.
    part: int = 0

    @property
    def name(self) -> str:
        """`wide`, `frozen`, or `parts_8`."""
        return f"parts_{self.part}" if self.part else self.kind

    @classmethod
    def parse(cls, precision: str, name: str) -> "Strategy":
        """The strategy with this precision and name.

        Raises:
            ValueError: there is none.
        """
        if name in {"wide", "frozen"}:
            return cls(precision, cast("Kind", name))
        found = re.fullmatch(r"parts_([1-9]\d{0,3})", name)
        if not found:
            raise ValueError(f"unknown strategy {name!r}")
        return cls(precision, "narrow", int(found[1]))


class FairLock:
    """A lock that threads get in the order in which they asked for it.

    Batches and the calls of a measurement take turns with it: while a model is measured, a batch of another one waits
    for at most one call.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._threads: deque[int] = deque()

    def __enter__(self) -> None:
        with self._changed:
            self._threads.append(threading.get_ident())
            self._changed.wait_for(lambda: self._threads[0] == threading.get_ident())

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._threads.popleft()
            self._changed.notify_all()

    def __len__(self) -> int:
        """How many threads have the lock or wait for it."""
        return len(self._threads)


class StrategyCall:
    """Runs each batch with the strategy chosen for the size nearest to it.

    At first it has only the call for single images, and uses it for all batches; `build` makes the others.
    """

    def __init__(self, network: Network, precision: str, choices: Sequence[ChosenStrategy], cores: int) -> None:
        self._network = network
        self._cores = cores
        #: By batch size.
        self._strategies = {item.images: Strategy.parse(precision, item.strategy) for item in choices}
        self._first = self._strategies[min(self._strategies)]
        self._calls: dict[Kind, Call] = {self._first.kind: network.build(self._first.kind)}
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="model")

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Raw outputs of `pixels`, in order; an error in a part is raised."""
        strategy = self._strategies[nearest(self._strategies, len(pixels))]
        if strategy.kind not in self._calls:
            strategy = self._first
        return run(self._calls[strategy.kind], strategy.part, pixels, self._cores, self._pool)

    def build(self, pixels: NDArray[np.uint8], check: Callable[[Call], None]) -> threading.Thread:
        """Make the remaining calls in the background; a call is used once `check` has accepted it.

        `pixels` is a full batch.
        """
        thread = threading.Thread(target=self._build, args=(pixels, check), name=BUILDER_THREAD)
        thread.start()
        return thread

    def _build(self, pixels: NDArray[np.uint8], check: Callable[[Call], None]) -> None:
        for kind in sorted({strategy.kind for strategy in self._strategies.values()}):
            if self._is_exiting():
                return
            try:
                call = self._network.build(kind)
                if kind not in self._calls:
                    check(call)
                if kind == "narrow":
                    self._warm_up(call, pixels)
            # Frameworks can raise anything on a network that they cannot freeze.
            except Exception as error:  # noqa: BLE001
                if not self._is_exiting():
                    _log.warning(
                        "A strategy cannot be used, which makes batches slower", kind=kind, reason=_reason(error)
                    )
            else:
                self._calls[kind] = call
        del self._network  # with its weights and the calls that are not used

    def _is_exiting(self) -> bool:
        """Whether the process is exiting: then pools accept no calls."""
        try:
            self._pool.submit(int)
        except RuntimeError:
            return True
        return False

    def _warm_up(self, narrow: Call, pixels: NDArray[np.uint8]) -> None:
        """Run every part size on all cores in parallel, so that nothing is compiled while jobs wait."""
        for size in range(1, min(len(pixels), max(strategy.part for strategy in self._strategies.values())) + 1):
            list(self._pool.map(narrow, [pixels[:size]] * self._cores))


def run(call: Call, part: int, pixels: NDArray[np.uint8], cores: int, pool: ThreadPoolExecutor) -> NDArray[np.floating]:
    """Raw outputs of `pixels` in one call, or in parts of at most `part` images that run in parallel."""
    parts = _part_count(len(pixels), part, cores)
    if parts == 1:
        return call(pixels)
    return np.concatenate(list(pool.map(call, np.array_split(pixels, parts))))


def _part_count(images: int, part: int, cores: int) -> int:
    """The same number of parts for each core: otherwise some cores would wait for others."""
    return min(images, math.ceil(images / (part * cores)) * cores) if part else 1


def nearest(sizes: Iterable[int], images: int) -> int:
    """The size with the smallest ratio to `images`; of two, the smaller one."""
    return min(sorted(sizes), key=lambda size: max(size / images, images / size))


def sizes_to_measure(batch_size: int) -> list[int]:
    """One image, a batch of few clients, and a full batch."""
    return sorted({1, min(8, batch_size), batch_size})


def usual_choices(network: Network, sizes: Sequence[int]) -> list[ChosenStrategy]:
    """What is used if nothing was measured: one call for a single image, and parts for batches if possible."""
    simplest = network.kinds[0]
    batches = f"parts_{_PARTS[0]}" if "narrow" in network.kinds else simplest
    return [ChosenStrategy(size, simplest if size == 1 else batches) for size in sizes]


def measure(
    networks: Mapping[str, Network],
    pixels: NDArray[np.uint8],
    cores: int,
    check: Check,
    budget_s: float,
    clock: Clock = time.perf_counter,
    turn: AbstractContextManager[None] = _ALONE,
) -> tuple[str, list[ChosenStrategy]]:
    """The precision, and the fastest strategy for each batch size; `pixels` is a full batch.

    The calls take at most about `budget_s`. Each of them is made in the context `turn`, and waiting for it does not
    count. The first of `networks` is used unless another one is faster for every size. A size that was not reached has
    the strategy of the next smaller one.
    """
    base, *_ = networks
    left = _usable_calls(networks, check)
    sizes = sizes_to_measure(len(pixels))
    timed: dict[int, dict[Strategy, float]] = {}
    left_s = budget_s
    with ThreadPoolExecutor(cores) as pool:
        for size in sizes:
            ways = {
                strategy: _bound(left[strategy.precision, strategy.kind], strategy.part, pixels[:size], cores, pool)
                for strategy in _strategies(list(left), size, cores)
            }
            timed[size], spent_s = race(ways, left_s * (1 if size == sizes[-1] else _SHARE), clock, turn)
            left_s -= spent_s
            left = _promising(left, timed[size], base, size)
    was_timed = {strategy.precision for times in timed.values() for strategy in times}
    precision = next((precision for precision, _ in left if precision != base and precision in was_timed), base)
    return precision, _choices(precision, networks[precision], timed)


def race(
    ways: Mapping[Strategy, Callable[[], object]], budget_s: float, clock: Clock, turn: AbstractContextManager[None]
) -> tuple[dict[Strategy, float], float]:
    """The time in seconds of the fastest call of each way, and of all calls; without ways for which there was no time.

    The ways take turns, so that other load on the machine affects all of them.
    """
    spent_s, left = 0.0, list(ways)
    best: dict[Strategy, float] = {}
    for number in range(_ROUNDS):
        times = {} if number < 2 else best  # the first call may compile
        for strategy in left:
            if spent_s >= budget_s:
                return best, spent_s
            with turn:
                began_s = clock()
                ways[strategy]()
                time_s = clock() - began_s
            spent_s += time_s
            best[strategy] = min(times.get(strategy, math.inf), time_s)
        factor = _HOPELESS if number else _HOPELESS_AT_FIRST
        fastest_s = min(best[strategy] for strategy in left)
        left = [strategy for strategy in sorted(left, key=best.__getitem__) if best[strategy] <= factor * fastest_s]
        if number and len(left) == 1:
            break
    return best, spent_s


def _usable_calls(networks: Mapping[str, Network], check: Check) -> dict[_Key, Call]:
    calls = {}
    for precision, network in networks.items():
        for kind in network.kinds:
            try:
                call = network.build(kind)
                check(call, precision)
            # Frameworks can raise anything on a network that they cannot freeze.
            except Exception as error:  # noqa: BLE001
                _log.warning("A strategy cannot be used", precision=precision, kind=kind, reason=_reason(error))
            else:
                calls[precision, kind] = call
    return calls


def _strategies(calls: Sequence[_Key], images: int, cores: int) -> list[Strategy]:
    """The strategies that differ for this batch size: first one for each call, then those with other parts."""
    parts: dict[int, int] = {}
    for part in _PARTS if images > 1 else (1,):
        parts.setdefault(_part_count(images, part, cores), part)
    first, *others = parts.values()
    return [
        *(Strategy(precision, kind, first if kind == "narrow" else 0) for precision, kind in calls),
        *(Strategy(precision, kind, part) for precision, kind in calls if kind == "narrow" for part in others),
    ]


def _bound(
    call: Call, part: int, pixels: NDArray[np.uint8], cores: int, pool: ThreadPoolExecutor
) -> Callable[[], object]:
    return lambda: run(call, part, pixels, cores, pool)


def _promising(calls: Mapping[_Key, Call], times: Mapping[Strategy, float], base: str, images: int) -> dict[_Key, Call]:
    """The calls that can be the fastest ones for larger batches, in the order of their times.

    A precision must be faster than the base one for every size. Within a precision, a call that is slow for a single
    image may be fast for batches, because it uses one core. Constant weights help all batches alike, so of the two
    calls on all cores only the faster one can be the fastest.
    """
    best = dict.fromkeys(calls, math.inf)
    of_precision: dict[str, float] = {}
    for strategy, time_s in times.items():
        key = strategy.precision, strategy.kind
        best[key] = min(best[key], time_s)
        of_precision[key[0]] = min(of_precision.get(key[0], math.inf), time_s)
    to_beat_s = of_precision.get(base, math.inf)
    slower = {key for key in calls if key[0] != base and of_precision.get(key[0], 0.0) >= to_beat_s}
    if images > 1:
        slower |= {key for key in calls if best[key] > _HOPELESS * min(best.values())}
        for precision in of_precision:
            wide, frozen = (precision, "wide"), (precision, "frozen")
            if wide in best and frozen in best:
                slower.add(wide if best[frozen] < _CLEARLY * best[wide] else frozen)
    return {key: calls[key] for key in sorted(calls, key=best.__getitem__) if key not in slower}


def _choices(precision: str, network: Network, timed: Mapping[int, Mapping[Strategy, float]]) -> list[ChosenStrategy]:
    choices: list[ChosenStrategy] = []
    for usual in usual_choices(network, list(timed)):
        times = timed[usual.images]
        measured_ms = {f"{way.precision}/{way.name}": round(time_s * 1000, 3) for way, time_s in times.items()}
        mine = {way: times[way] for way in times if way.precision == precision}
        if mine:
            name = _simplest(mine, network.kinds).name
        elif choices and choices[-1].strategy in network.kinds:
            name = choices[-1].strategy
        else:
            name = usual.strategy
        choices.append(ChosenStrategy(usual.images, name, measured_ms))
    return choices


def _simplest(times: Mapping[Strategy, float], kinds: Sequence[Kind]) -> Strategy:
    """The fastest strategy, or a simpler one that is about as fast: constant weights make the start slower."""
    of_kind = [
        min((way for way in times if way.kind == kind), key=times.__getitem__)
        for kind in kinds
        if any(way.kind == kind for way in times)
    ]
    fastest, *others = of_kind
    for way in others:
        if times[way] < _CLEARLY * times[fastest]:
            fastest = way
    return fastest


def _reason(error: Exception) -> str:
    return str(error)[:200]
