"""The snapshot cache: every result is computed once, ahead of the viewers who want it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from dashboard.data.cache import SnapshotCache
from dashboard.data.snapshot import Snapshot
from tests.unit.dashboard.conftest import snapshot


def test_what_viewers_look_at_is_computed_before_they_ask_again() -> None:
    cache, computed = SnapshotCache(), []
    first, second, third = (snapshot(sequence=number) for number in (1, 2, 3))

    def compute(of: Snapshot) -> int:
        computed.append(of.sequence)
        return of.sequence

    assert cache.get(first, ("page",), compute) == 1
    cache.renew(second)
    assert computed == [1, 2]
    assert cache.get(first, ("page",), compute) == 1  # for a viewer who still reads the previous snapshot
    assert cache.get(second, ("page",), compute) == 2
    assert computed == [1, 2]
    cache.renew(third)
    cache.renew(replace(third, sequence=4))
    assert computed == [1, 2, 3]  # no viewer asked between the last two


def test_a_slow_result_blocks_only_viewers_who_want_it() -> None:
    cache, of, finish = SnapshotCache(), snapshot(), threading.Event()
    with ThreadPoolExecutor(2) as threads:
        slow = [threads.submit(cache.get, of, ("slow",), lambda _of: finish.wait(30)) for _ in range(2)]
        assert cache.get(of, ("quick",), lambda _of: "computed") == "computed"
        assert not any(one.done() for one in slow)
        finish.set()
        assert [one.result(30) for one in slow] == [True, True]


def test_a_failed_result_fails_only_for_viewers_who_want_it() -> None:
    cache = SnapshotCache()
    cache.get(snapshot(sequence=1), ("bad",), lambda of: 1 // (2 - of.sequence))
    cache.get(snapshot(sequence=1), ("good",), lambda of: of.sequence)
    cache.renew(snapshot(sequence=2))
    assert cache.get(snapshot(sequence=2), ("good",), lambda _of: 0) == 2
    with pytest.raises(ZeroDivisionError):
        cache.get(snapshot(sequence=2), ("bad",), lambda of: 1 // (2 - of.sequence))
