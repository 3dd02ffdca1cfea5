"""A worker measures the strategies for running a model, and runs each batch with the fastest one for its size."""

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.ledger.types import ChosenStrategy
from tests.support.services import ROOT, wait_until
from worker.runtime.strategies import (
    Call,
    FairLock,
    Kind,
    StrategyCall,
    measure,
    nearest,
    sizes_to_measure,
    usual_choices,
)

ALL_KINDS: tuple[Kind, ...] = ("wide", "frozen", "narrow")
#: The milliseconds of a call, given its kind and the number of images.
Cost = Callable[[Kind, int], float]


class Clock:
    """A clock that moves only when a model is called."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class FakeNetwork:
    """A network whose calls cost what `cost` says, and 5 ms more for the first call; records the calls."""

    def __init__(self, cost: Cost, clock: Clock, kinds: Sequence[Kind] = ALL_KINDS) -> None:
        self.kinds = kinds
        self.calls: list[tuple[Kind, int]] = []
        self.built: list[Kind] = []
        self._cost, self._clock = cost, clock

    def build(self, kind: Kind) -> Call:
        self.built.append(kind)

        def call(pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
            compiles = (kind, len(pixels)) not in self.calls
            self.calls.append((kind, len(pixels)))
            self._clock.now_s += (self._cost(kind, len(pixels)) + 5 * compiles) / 1000
            if 255 in pixels:
                raise RuntimeError("a bad part")
            return pixels.reshape(len(pixels), -1)[:, :1].astype(np.float32)

        return call


def images(count: int) -> NDArray[np.uint8]:
    return np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1).repeat(3, axis=3)


def accept(_call: Call, _precision: str = "float32") -> None:
    """Accept the outputs of any call."""


def chosen(cost: Cost, bfloat16: Cost | None = None, budget_s: float = 2.0) -> tuple[str, dict[int, str], FakeNetwork]:
    """The precision and the strategies chosen for a batch size of 32, and the float32 network."""
    clock = Clock()
    networks = {"float32": FakeNetwork(cost, clock)}
    if bfloat16:
        networks["bfloat16"] = FakeNetwork(bfloat16, clock, ("frozen", "narrow"))
    precision, choices = measure(networks, images(32), 1, accept, budget_s, clock)
    return precision, {item.images: item.strategy for item in choices}, networks["float32"]


def wide_is_faster(kind: Kind, count: int) -> float:
    """The reverse of what is used without a measurement: one core for a single image, all cores for batches."""
    if count == 1:
        return 1 if kind == "narrow" else 2
    return count * (3 if kind == "narrow" else 1)


def test_a_bundle_is_served_with_its_fastest_strategy_instead_of_the_usual_one() -> None:
    clock = Clock()
    network = FakeNetwork(wide_is_faster, clock)
    usual = usual_choices(network, sizes_to_measure(32))
    _, choices = measure({"float32": network}, images(32), 2, accept, 2.0, clock)
    assert [item.strategy for item in usual] == ["wide", "parts_8", "parts_8"]
    assert [item.strategy for item in choices] == ["parts_1", "wide", "wide"]

    call = StrategyCall(network, "float32", choices, 2)
    call.build(images(32), accept).join(30)
    network.calls.clear()
    for count in (1, 8, 32):
        assert call(images(count))[:, 0].tolist() == list(range(count))
    assert network.calls == [("narrow", 1), ("wide", 8), ("wide", 32)]


@pytest.mark.parametrize(
    ("best_part", "name"), [(4, "parts_4"), (8, "parts_8"), (16, "parts_16")], ids=["4", "8", "16"]
)
def test_the_size_of_the_parts_is_measured(best_part: int, name: str) -> None:
    def cost(kind: Kind, count: int) -> float:
        return count * (5 if kind != "narrow" or count != best_part else 4)

    assert chosen(cost)[1][32] == name


def test_constant_weights_are_used_only_if_they_are_clearly_faster() -> None:
    def cost(times: float) -> Cost:
        return lambda kind, count: count * {"wide": 10, "frozen": 10 * times, "narrow": 30}[kind]

    assert chosen(cost(0.99))[1] == {1: "wide", 8: "wide", 32: "wide"}
    assert chosen(cost(0.90))[1] == {1: "frozen", 8: "frozen", 32: "frozen"}


@pytest.mark.parametrize(
    ("single", "batch", "expected"),
    [(0.5, 0.5, "bfloat16"), (2, 2, "float32"), (0.5, 2, "float32"), (2, 0.5, "float32")],
    ids=["faster", "slower", "slower for batches", "slower for one image"],
)
def test_bfloat16_is_used_only_if_it_is_faster_for_one_image_and_for_batches(
    single: float, batch: float, expected: str
) -> None:
    precision, _, _ = chosen(
        lambda _, count: 10 * count, lambda _, count: 10 * count * (single if count == 1 else batch)
    )
    assert precision == expected


def test_bfloat16_is_not_used_if_its_outputs_are_wrong() -> None:
    def check(_: Call, precision: str) -> None:
        if precision == "bfloat16":
            raise ValueError("too far from the golden outputs")

    clock = Clock()
    networks = {"float32": FakeNetwork(lambda _, n: 2 * n, clock), "bfloat16": FakeNetwork(lambda _, n: n, clock)}
    assert measure(networks, images(32), 2, check, 2.0, clock)[0] == "float32"


def test_measuring_ends_with_its_budget_and_a_hopeless_strategy_is_not_tried_again() -> None:
    def cost(kind: Kind, count: int) -> float:
        return count * {"wide": 40, "frozen": 400, "narrow": 50}[kind]

    clock = Clock()
    network = FakeNetwork(cost, clock)
    _, choices = measure({"float32": network}, images(32), 1, accept, 2.0, clock)
    longest_s = 32 * 0.05
    assert clock.now_s < 2.0 + 2 * longest_s
    assert network.calls.count(("frozen", 8)) <= 2
    assert ("frozen", 32) not in network.calls
    assert [item.strategy for item in choices][:2] == ["wide", "wide"]


def test_without_time_for_a_size_the_strategy_of_the_smaller_one_is_used() -> None:
    _, strategies, network = chosen(lambda kind, n: n * {"wide": 90, "frozen": 100, "narrow": 200}[kind], budget_s=1.0)
    assert strategies[32] == strategies[1] == "wide"
    assert network.calls.count(("wide", 32)) <= 2


def test_a_bundle_is_measured_even_if_its_weights_cannot_be_frozen() -> None:
    class Unfrozen(FakeNetwork):
        def build(self, kind: Kind) -> Call:
            if kind != "wide":
                raise RuntimeError("no such graph")
            return super().build(kind)

    clock = Clock()
    network = Unfrozen(wide_is_faster, clock)
    _, choices = measure({"float32": network}, images(32), 2, accept, 2.0, clock)
    assert {item.strategy for item in choices} == {"wide"}


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 1), (3, 8), (8, 8), (15, 8), (16, 8), (17, 32), (40, 32)])
def test_a_batch_runs_with_the_strategy_of_the_nearest_size(count: int, size: int) -> None:
    assert nearest([1, 8, 32], count) == size


@pytest.mark.parametrize("cores", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 31, 32, 100])
def test_parts_keep_the_order_of_the_images_and_are_the_same_for_each_core(count: int, cores: int) -> None:
    network = FakeNetwork(lambda *_: 1, Clock())
    call = StrategyCall(network, "float32", [ChosenStrategy(1, "parts_8")], cores)
    assert call(images(count))[:, 0].tolist() == list(range(count))
    parts = [size for _, size in network.calls]
    assert sum(parts) == count
    assert max(parts) <= 8
    assert max(parts) - min(parts) <= 1
    assert len(parts) % cores == 0 or len(parts) == count


def test_an_error_in_a_part_is_raised_and_the_next_batch_runs() -> None:
    call = StrategyCall(FakeNetwork(lambda *_: 1, Clock()), "float32", [ChosenStrategy(1, "parts_8")], 2)
    bad = images(16)
    bad[13] = 255
    with pytest.raises(RuntimeError, match="a bad part"):
        call(bad)
    assert len(call(images(16))) == 16


USUAL = [ChosenStrategy(1, "wide"), ChosenStrategy(8, "parts_8")]


def test_batches_are_not_split_until_their_call_is_built() -> None:
    network = FakeNetwork(lambda *_: 1, Clock())
    call = StrategyCall(network, "float32", USUAL, 2)
    assert network.built == ["wide"]
    assert len(call(images(8))) == 8
    assert network.calls == [("wide", 8)]
    call.build(images(8), accept).join(30)
    network.calls.clear()
    assert len(call(images(8))) == 8
    assert network.calls == [("narrow", 4), ("narrow", 4)]


@pytest.mark.parametrize("single", ["wide", "parts_1"])
def test_every_size_of_a_part_is_compiled_before_jobs_wait_for_it(single: str) -> None:
    network = FakeNetwork(lambda *_: 1, Clock())
    call = StrategyCall(network, "float32", [ChosenStrategy(1, single), ChosenStrategy(8, "parts_4")], 2)
    call.build(images(8), accept).join(30)
    assert {size for kind, size in network.calls if kind == "narrow"} == {1, 2, 3, 4}


def test_batches_are_not_split_if_the_outputs_of_the_parts_are_wrong() -> None:
    def refuse(_: Call) -> None:
        raise ValueError("too far from the golden outputs")

    network = FakeNetwork(lambda *_: 1, Clock())
    call = StrategyCall(network, "float32", USUAL, 2)
    call.build(images(8), refuse).join(30)
    network.calls.clear()
    assert call(images(8))[:, 0].tolist() == list(range(8))
    assert network.calls == [("wide", 8)]


EXITING = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from contract.ledger.types import ChosenStrategy
from worker.runtime.strategies import StrategyCall

class Network:
    kinds = ("wide", "narrow")
    def build(self, kind):
        while kind == "narrow":  # until pools accept no calls
            try:
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(int)
            except RuntimeError:
                break
        return lambda pixels: pixels.reshape(len(pixels), -1)

choices = [ChosenStrategy(1, "wide"), ChosenStrategy(8, "parts_4")]
builder = StrategyCall(Network(), "float32", choices, 2).build(np.zeros((8, 1, 1, 3), np.uint8), lambda _: None)
ThreadPoolExecutor(1).submit(builder.join, 30)  # so long, the main thread is alive
"""


def test_a_process_that_exits_while_strategies_are_built_logs_no_warning() -> None:
    done = subprocess.run([sys.executable, "-c", EXITING], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_a_batch_waits_for_at_most_one_call_of_a_measurement() -> None:
    turn, order = FairLock(), list[str]()

    class Network(FakeNetwork):
        def build(self, kind: Kind) -> Call:
            call = super().build(kind)

            def watched(pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
                wait_until(lambda: len(turn) == 2, "a batch waiting for its turn")
                order.append("measurement")
                return call(pixels)

            return watched

    networks = {"float32": Network(wide_is_faster, Clock(), ("wide", "frozen"))}
    measuring = threading.Thread(target=measure, args=(networks, images(32), 1, accept, 2.0, Clock(), turn))
    measuring.start()
    while measuring.is_alive():
        with turn:
            order.append("batch")
    order = order[order.index("measurement") :]
    assert order.count("measurement") > 5
    assert ("measurement", "measurement") not in pairwise(order)
