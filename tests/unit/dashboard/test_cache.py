"""The snapshot cache: each result is computed once per snapshot."""

from functools import partial

import pytest

from dashboard.data.cache import SnapshotCache
from tests.unit.dashboard.conftest import snapshot


def test_a_result_is_computed_once_per_snapshot_and_key() -> None:
    cache, computed = SnapshotCache(), []

    def get(sequence: int, key: str) -> str:
        def compute() -> str:
            computed.append((sequence, key))
            return f"{key} of {sequence}"

        return cache.get(snapshot(sequence=sequence), (key,), compute)

    assert [get(1, "a"), get(1, "a"), get(1, "b"), get(2, "a"), get(2, "a")] == [
        "a of 1", "a of 1", "b of 1", "a of 2", "a of 2",
    ]  # fmt: skip
    assert computed == [(1, "a"), (1, "b"), (2, "a")]


def test_the_number_of_cached_results_is_limited() -> None:
    cache, current = SnapshotCache(), snapshot()
    for number in range(1000):
        assert cache.get(current, (str(number),), partial(int, number)) == number
    assert cache.get(current, ("0",), lambda: "computed again") == "computed again"


def test_an_exception_does_not_affect_other_keys() -> None:
    cache, current = SnapshotCache(), snapshot()
    with pytest.raises(ZeroDivisionError):
        cache.get(current, ("bad",), lambda: 1 // 0)
    assert cache.get(current, ("good",), lambda: 1) == 1
