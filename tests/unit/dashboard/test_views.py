"""Every card of every page in every state: words always, zeros never, and figures that Plotly takes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import pytest

from dashboard.card import CardState, Content
from dashboard.components import outputs, values
from dashboard.drift import SAMPLE_MIN
from dashboard.pages import PAGES, Maker
from dashboard.snapshot import Alert, Numbers, Run, Snapshot, SourceState
from dashboard.viewers import Viewer
from dashboard.views import capacity, live, models
from tests.unit.dashboard.conftest import NOW, UP, beat, busy_numbers, numbers, row, series, snapshot

WAITING = SourceState("The gateway")
DOWN = WAITING.failed(NOW - 60, "It does not answer.")
STALE = UP.failed(NOW - 60, "It does not answer.")
SHOWING = [page for page in PAGES if page.specs]


def contents(page: Any, of: Snapshot, search: str = "") -> dict[str, Content]:
    return dict(page.make(of, Viewer(), search))


def with_sources(state: SourceState) -> Snapshot:
    empty = numbers(state) if state.read_at_s is None else busy_numbers(state)
    jobs = () if state.read_at_s is None else snapshot().jobs
    served = None if state.read_at_s is None else snapshot().served
    workers = () if state.read_at_s is None else (beat(),)
    return snapshot(numbers=empty, ledger=state, bundle=state, jobs=jobs, served=served, workers=workers)


@pytest.mark.parametrize("page", SHOWING, ids=lambda page: page.name)
@pytest.mark.parametrize(
    ("of", "allowed"),
    [
        (snapshot(jobs=tuple(row(ended_s=NOW - at) for at in range(2 * SAMPLE_MIN))), {CardState.OK, CardState.EMPTY}),
        (with_sources(WAITING), {CardState.LOADING, CardState.EMPTY}),
        (with_sources(DOWN), {CardState.ERROR, CardState.EMPTY}),
        (with_sources(STALE), {CardState.STALE, CardState.ERROR, CardState.EMPTY}),
    ],
    ids=["busy", "waiting", "never answered", "gone"],
)
def test_each_card_has_words_and_fits_its_outputs(page: Any, of: Snapshot, allowed: set[CardState]) -> None:
    found = contents(page, of)

    assert found.keys() == {spec.id for spec in page.specs}
    for spec in page.specs:
        content = found[spec.id]
        assert content.note.strip()
        assert content.state in allowed, (spec.id, content)
        assert len(values(spec, content)) == len(outputs(spec))
        if content.state in (CardState.LOADING, CardState.ERROR, CardState.EMPTY):
            assert not content.stats
            assert content.figure is None
        if content.figure is not None:
            go.Figure(content.figure)  # raises for an attribute that Plotly does not know
            assert content.table, "each figure has its table"
            assert content.table.body


@pytest.mark.parametrize("page", SHOWING, ids=lambda page: page.name)
def test_a_source_that_is_gone_is_named_with_the_time(page: Any) -> None:
    of = replace(with_sources(DOWN), numbers=numbers(replace(DOWN, name="Prometheus")))
    notes = " ".join(content.note for content in contents(page, of).values())
    assert (
        "unreachable since 07:59 UTC" in notes or "not readable since 07:59 UTC" in notes or "cannot be read" in notes
    )


def test_what_is_old_says_from_when_it_is() -> None:
    content = live.contents(snapshot(numbers=busy_numbers(STALE)))["live-now"]
    assert content.note == (
        "The gateway unreachable since 07:59 UTC. It does not answer. What is shown is from 08:00 UTC."
    )
    assert content.stats


def test_what_is_not_known_is_never_a_zero() -> None:
    found = live.contents(snapshot(numbers=numbers(jobs=[series(3, queue="bulk", state="queued")])))
    stats = {stat.name: stat.value for stat in found["live-now"].stats}
    assert stats["Waiting"] == "3"
    assert stats["In"] == stats["Done"] == "not yet known"
    assert stats["In flight"] == stats["Dead letters"] == stats["Oldest waits"] == "unknown"


def test_batches_are_told_by_size_and_fill() -> None:
    buckets = [series(n, le=le) for le, n in (("1.0", 2), ("2.0", 2), ("4.0", 5), ("32.0", 6), ("+Inf", 6))]
    found = live.contents(snapshot(numbers=numbers(batch_sizes=buckets, batch_mean=[series(8)])))["live-batches"]
    assert found.table
    assert found.table.body == (("1", "2"), ("2", "0"), ("3 to 4", "3"), ("5 to 32", "1"))
    assert found.note == "last 5 min, images a batch on average: 8, 25 % of the largest batch"


def test_errors_are_told_by_code_a_minute() -> None:
    found = live.contents(
        snapshot(numbers=numbers(errors=[series(0, 0.5, code="worker_lost"), series(0, 0, code="x")]))
    )
    figure = found["live-errors"].figure
    assert figure
    assert [(line["name"], line["y"]) for line in figure["data"]] == [("worker_lost", [0, 30])]


@pytest.mark.parametrize(
    ("alerts", "words"),
    [
        (None, "PAWQUEUE_PROMETHEUS_URL"),
        ((), "No alert is firing."),
        ((Alert("QueueGrows", "page", "It grows.", NOW),), "1 alert"),
    ],
)
def test_alerts_are_prometheus_s(alerts: Any, words: str) -> None:
    of = replace(busy_numbers(), alerts=alerts)
    assert words in live.contents(snapshot(numbers=of))["live-alerts"].note


def test_capacity_tells_what_one_more_worker_gives() -> None:
    of = numbers(
        images=[series(*[40] * 13, instance="http://w/metrics")],
        jobs=[series(*[300] * 13, queue="bulk", state="queued")],
        accepted=[series(10)],
    )
    found = capacity.contents(snapshot(numbers=of))
    stats = {stat.name: (stat.value, stat.more) for stat in found["capacity-now"].stats}
    assert stats["One worker can do"] == ("40", "images/s, seen while jobs waited")
    assert stats["Time to clear"][0] == "10 s"
    assert stats["Workers wanted"][0] == "1"
    table = found["capacity-more"].table
    assert table
    assert table.body[1] == ("2 workers (1 more)", "80", "12 %", "4.3 s")


def test_confusion_and_calibration_come_from_the_answers() -> None:
    answers = [("cat", "cat", 0.91), ("cat", "dog", 0.55), ("dog", "dog", 0.99), ("dog", "dog", 1.0)]
    assert models.confusion(["cat", "dog"], answers) == [[1, 1], [0, 2]]
    points = models.calibration_points(answers)
    assert [(round(sure, 3), right, n) for sure, right, n in points] == [(0.55, 0.0, 1), (0.967, 1.0, 3)]


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ([], "No worker serves it just now"),
        (["compact-c539273e"], "Served by 1 of 1 workers"),
        (["compact-c539273e", "2"], "Served by 1 of 2 workers; the others serve 2"),
    ],
)
def test_a_worker_with_another_model_is_noticed(versions: list[str], words: str) -> None:
    of = snapshot(workers=tuple(beat(version=version) for version in versions))
    of = replace(of, served=replace(of.served, manifest={**of.served.manifest, "version": "compact-c539273e"}))  # type: ignore[arg-type,union-attr]
    assert models.served_by(of) == words


def test_runs_stand_side_by_side_and_tell_what_differs() -> None:
    runs = (
        Run("1", "first", "FINISHED", NOW, {"accuracy": 0.9}, {"rate": "0.1", "seed": "1"}),
        Run("2", "second", "FAILED", None, {}, {"rate": "0.2", "seed": "1"}),
    )
    table = models.side_by_side(runs)
    assert table.head == ("Of the run", "first", "second")
    assert table.body[0] == ("status", "finished", "failed")
    assert table.body[2:] == (("accuracy", "0.9", "-"), ("rate", "0.1", "0.2"))


def test_things_are_made_once_a_snapshot_and_for_each_viewer_apart() -> None:
    maker = Maker()
    mine, all_of_it = Viewer("me", sees_all=False), Viewer("boss", sees_all=True)
    of = snapshot(jobs=(row(owner="me"), row(owner="you")))
    made = [maker.values(PAGES[1], of, mine) for _ in range(3)]
    assert made[0] is made[1] is made[2]
    assert maker.values(PAGES[1], of, all_of_it) is not made[0]
    assert maker.values(PAGES[1], replace(of, sequence=2), mine) is not made[0]


def test_what_is_looked_at_is_made_before_it_is_asked_for_again() -> None:
    maker, made = Maker(), []
    first, second, third = (snapshot(sequence=number) for number in (1, 2, 3))

    def make(of: Snapshot) -> int:
        made.append(of.sequence)
        return of.sequence

    assert maker.once(first, ("page",), make) == 1
    maker.renew(second)
    assert made == [1, 2]
    assert maker.once(first, ("page",), make) == 1  # by one who still reads the last snapshot
    assert maker.once(second, ("page",), make) == 2
    assert made == [1, 2]
    maker.renew(third)
    maker.renew(replace(third, sequence=4))
    assert made == [1, 2, 3]  # nobody asked meanwhile


def test_what_takes_long_keeps_nobody_else_waiting() -> None:
    maker, of, go_on = Maker(), snapshot(), threading.Event()
    with ThreadPoolExecutor(2) as threads:
        slow = [threads.submit(maker.once, of, ("slow",), lambda _of: go_on.wait(30)) for _ in range(2)]
        assert maker.once(of, ("quick",), lambda _of: "made") == "made"
        assert not any(one.done() for one in slow)
        go_on.set()
        assert [one.result(30) for one in slow] == [True, True]


def test_what_cannot_be_made_fails_for_who_asks_alone() -> None:
    maker = Maker()
    maker.once(snapshot(sequence=1), ("bad",), lambda of: 1 // (2 - of.sequence))
    maker.once(snapshot(sequence=1), ("good",), lambda of: of.sequence)
    maker.renew(snapshot(sequence=2))
    assert maker.once(snapshot(sequence=2), ("good",), lambda _of: 0) == 2
    with pytest.raises(ZeroDivisionError):
        maker.once(snapshot(sequence=2), ("bad",), lambda of: 1 // (2 - of.sequence))


def test_an_own_history_is_needed_for_a_line() -> None:
    content = live.contents(snapshot(numbers=Numbers({}, {"gateway": UP, "workers": UP}, None, 900)))["live-flow"]
    assert content.state is CardState.EMPTY
    assert "two readings" in content.note
