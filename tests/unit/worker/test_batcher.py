"""When a batch is released, and which items it contains."""

import threading

from worker.pipeline.batch import Batcher


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def filled(items: list[str], *, size: int = 4, expected: int | None = None, clock: Clock | None = None) -> Batcher[str]:
    batcher: Batcher[str] = Batcher(size, wait_s=1.0, clock=clock or Clock())
    batcher.expect(len(items) if expected is None else expected)
    for item in items:
        batcher.put(item, rank=1 if item.startswith("bulk") else 0)
    return batcher


def take_in_thread(batcher: Batcher[str]) -> tuple[threading.Thread, list[list[str]]]:
    taken: list[list[str]] = []
    thread = threading.Thread(target=lambda: taken.append(batcher.take()), daemon=True)
    thread.start()
    return thread, taken


def test_a_full_batch_is_released_immediately() -> None:
    batcher = filled(["a", "b", "c", "d", "e"], expected=9)
    assert batcher.take() == ["a", "b", "c", "d"]
    assert len(batcher) == 1


def test_a_partial_batch_is_released_immediately_when_no_more_items_are_expected() -> None:
    assert filled(["a"]).take() == ["a"]


def test_a_partial_batch_waits_for_expected_items() -> None:
    batcher = filled(["a"], expected=2)
    thread, taken = take_in_thread(batcher)
    thread.join(0.1)
    assert not taken
    batcher.put("b", rank=0)
    thread.join(10)
    assert taken == [["a", "b"]]


def test_a_batch_does_not_wait_for_a_withdrawn_item() -> None:
    batcher = filled(["a"], expected=2)
    thread, taken = take_in_thread(batcher)
    batcher.withdraw()
    thread.join(10)
    assert taken == [["a"]]


def test_a_partial_batch_is_released_when_its_oldest_item_has_waited_long_enough() -> None:
    clock = Clock()
    batcher = filled(["a", "b"], expected=3, clock=clock)
    clock.now_s = 1.0
    assert batcher.take() == ["a", "b"]


def test_a_waiting_reader_wakes_when_the_oldest_item_has_waited_long_enough() -> None:
    batcher: Batcher[str] = Batcher(4, wait_s=0.05)
    batcher.expect(2)
    thread, taken = take_in_thread(batcher)
    batcher.put("a", rank=0)
    thread.join(10)
    assert taken == [["a"]]


def test_interactive_items_are_released_before_bulk_items() -> None:
    batcher = filled(["bulk1", "bulk2", "bulk3", "a", "b"])
    assert batcher.take() == ["a", "b", "bulk1", "bulk2"]
    assert batcher.take() == ["bulk3"]


def test_an_old_bulk_item_releases_the_batch_even_behind_interactive_items() -> None:
    clock = Clock()
    batcher = filled(["bulk1"], expected=3, clock=clock)
    clock.now_s = 0.9
    batcher.put("a", rank=0)
    clock.now_s = 1.0
    assert batcher.take() == ["a", "bulk1"]


def test_a_closed_batcher_returns_its_items_and_then_an_empty_batch() -> None:
    batcher = filled(["a"], expected=5)
    batcher.close()
    assert batcher.take() == ["a"]
    assert batcher.take() == []


def test_a_batch_contains_items_of_one_key() -> None:
    batcher: Batcher[str] = Batcher(4, wait_s=1.0, clock=Clock())
    for key in "ab":
        batcher.expect(2, key)
    for item in ("a1", "b1", "a2", "b2"):
        batcher.put(item, 0, item[0])
    assert batcher.take() == ["a1", "a2"]
    assert batcher.take() == ["b1", "b2"]


def test_a_backlog_of_one_key_delays_another_by_one_batch() -> None:
    batcher: Batcher[str] = Batcher(2, wait_s=1.0, clock=Clock())
    batcher.expect(6, "slow")
    for number in range(6):
        batcher.put(f"slow{number}", 0, "slow")
    assert batcher.take() == ["slow0", "slow1"]
    batcher.expect(1, "fast")
    batcher.put("fast", 0, "fast")
    assert batcher.take() == ["fast"]
    assert batcher.take() == ["slow2", "slow3"]


def test_an_item_of_a_lower_rank_comes_first_whatever_its_key() -> None:
    batcher: Batcher[str] = Batcher(2, wait_s=1.0, clock=Clock())
    batcher.expect(4, "slow")
    for number in range(4):
        batcher.put(f"slow{number}", 1, "slow")
    batcher.expect(1, "fast")
    batcher.put("fast", 0, "fast")
    assert batcher.take() == ["fast"]
    assert batcher.take() == ["slow0", "slow1"]


def test_items_wait_until_their_key_is_ready() -> None:
    ready: set[object] = set()
    batcher: Batcher[str] = Batcher(2, wait_s=1.0, is_ready=ready.__contains__)
    for key in "ab":
        batcher.expect(1, key)
        batcher.put(key, 0, key)
    thread, taken = take_in_thread(batcher)
    thread.join(0.1)
    assert not taken
    ready.add("b")
    batcher.wake()
    thread.join(10)
    assert taken == [["b"]]
    assert batcher.remove(lambda key: key == "a") == ["a"]
    assert len(batcher) == 0


def test_closing_returns_items_of_keys_that_are_ready() -> None:
    batcher: Batcher[str] = Batcher(2, wait_s=1.0, is_ready=lambda key: key == "b")
    for key in "ab":
        batcher.expect(2, key)
        batcher.put(key, 0, key)
    batcher.close()
    assert [batcher.take(), batcher.take()] == [["b"], []]
