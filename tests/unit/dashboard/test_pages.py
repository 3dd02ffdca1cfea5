"""The cards of all pages in all states: each has a note, and none shows zeros for unknown values."""

from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import pytest

from contract.ledger.counts import VersionCounts, range_of
from contract.ledger.feedback import Count, VersionFeedback
from contract.ledger.models import Change, Shadow
from contract.ledger.shadows import Agreement, Disagreement
from contract.ledger.types import ChosenStrategy, HeldModel, LedgerStats, QueueStats
from contract.ledger.webhooks import OutboxStats
from contract.status import NO_WORKER, Problem
from dashboard.app import PAGES
from dashboard.data.snapshot import Alert, Metrics, Run, ShadowView, Snapshot
from dashboard.data.source import SourceState
from dashboard.pages import capacity, drift, live, models, predictions
from dashboard.pages.drift import SAMPLE_MIN
from dashboard.pages.page import View
from dashboard.parts.card import CardState, Content, card_outputs, card_values
from dashboard.sign_in import ANYONE, Viewer
from tests.unit.dashboard.conftest import (
    NOW,
    UP,
    MakeWorld,
    all_metrics,
    heartbeat,
    metrics,
    row,
    series,
    snapshot,
    status,
)

WAITING = SourceState("the gateway")
DOWN = WAITING.failed(NOW - 60, "The gateway does not respond.")
STALE = UP.failed(NOW - 60, "The gateway does not respond.")
WITH_CARDS = [page for page in PAGES if page.cards]


def view(**changes: Any) -> View:
    return View(snapshot(**changes), ANYONE)


def with_sources(state: SourceState) -> Snapshot:
    if state.read_at_s is not None:
        return snapshot(metrics=all_metrics(state), ledger=state, bundle=state)
    empty = status(workers=())
    return snapshot(metrics=metrics(state), ledger=state, bundle=state, jobs=(), served=None, status=empty)


@pytest.mark.parametrize("page", WITH_CARDS, ids=lambda page: page.name)
@pytest.mark.parametrize(
    ("of", "allowed"),
    [
        (snapshot(jobs=tuple(row(finished_s=NOW - at) for at in range(2 * SAMPLE_MIN))), {"ok", "empty"}),
        (with_sources(WAITING), {"loading", "empty"}),
        (with_sources(DOWN), {"error", "empty"}),
        (with_sources(STALE), {"stale", "error", "empty"}),
    ],
    ids=["busy", "waiting", "never responded", "down"],
)
def test_every_card_has_a_note_and_values_for_its_outputs(page: Any, of: Snapshot, allowed: set[str]) -> None:
    found: dict[str, Content] = page.contents(View(of, ANYONE))

    assert found.keys() == {card.id for card in page.cards}
    for card in page.cards:
        content = found[card.id]
        assert content.note.strip()
        assert content.state in allowed, (card.id, content)
        assert len(card_values(card, content)) == len(card_outputs(card))
        if not content.has_data:
            assert not content.stats
            assert content.figure is None
        if content.figure is not None:
            go.Figure(content.figure)  # raises an exception for an unknown attribute
            assert content.table, "every figure has a table"
            assert content.table.body


@pytest.mark.parametrize("page", WITH_CARDS, ids=lambda page: page.name)
def test_notes_name_the_source_that_is_down_and_since_when(page: Any) -> None:
    notes = " ".join(content.note for content in page.contents(View(with_sources(DOWN), ANYONE)).values())
    assert "since 07:59 UTC. The gateway does not respond." in notes or "cannot be read. The gateway" in notes


def test_stale_data_is_shown_with_its_time() -> None:
    content = live.contents(view(ledger=STALE, status=status(problems=(NO_WORKER,))))["live-now"]
    assert content.state is CardState.STALE
    assert content.note.startswith("Unavailable since 07:59 UTC.")
    assert content.note.endswith("Showing data from 08:00 UTC.")
    assert stats_of(content)["Service"] == "unknown"
    chart = live.contents(view(metrics=all_metrics(STALE)))["live-queue"]
    assert chart.note == ("Unavailable since 07:59 UTC. The gateway does not respond. Showing data from 08:00 UTC.")
    assert chart.figure


def stats_of(content: Content) -> dict[str, str]:
    return {stat.name: stat.value for stat in content.stats}


def test_live_counts_come_from_the_ledger() -> None:
    stats = stats_of(live.contents(view(metrics=metrics()))["live-now"])
    assert (stats["Service"], stats["Queued"], stats["Running"]) == ("ready", "3", "1")
    assert (stats["Oldest queued"], stats["Finished"], stats["Dead letters"]) == ("2.5 s", "1,200", "2")
    assert stats["Accepted"] == stats["Succeeded"] == "unknown"


def test_rates_are_unknown_while_their_source_is_down() -> None:
    content = live.contents(view(metrics=all_metrics(STALE)))["live-now"]
    assert stats_of(content)["Accepted"] == stats_of(content)["Failed"] == "unknown"
    assert stats_of(content)["Queued"] == "3"
    assert content.note == "No rates since 07:59 UTC. The gateway does not respond."


@pytest.mark.parametrize(
    ("problem", "condition"),
    [(NO_WORKER, "degraded"), (Problem("ledger_full", "Redis is full."), "refusing uploads")],
)
def test_problems_of_the_service_are_shown(problem: Problem, condition: str) -> None:
    content = live.contents(view(status=status(problems=(problem,))))["live-now"]
    assert stats_of(content)["Service"] == condition
    assert content.note == problem.detail


def test_batches_are_counted_by_size() -> None:
    buckets = [series(n, le=le) for le, n in (("1.0", 2), ("2.0", 2), ("4.0", 5), ("32.0", 6), ("+Inf", 6))]
    content = live.contents(view(metrics=metrics(batch_sizes=buckets, batch_mean=[series(8)])))["live-batches"]
    assert content.table
    assert content.table.body == (("1", "2"), ("2", "0"), ("3 to 4", "3"), ("5 to 32", "1"))
    assert content.note == "Last 5 min, 8 images per batch on average (25 % of the largest batch)"


def test_errors_are_shown_by_code_and_minute() -> None:
    errors = [series(0, 0.5, code="worker_lost"), series(0, 0, code="x")]
    figure = live.contents(view(metrics=metrics(errors=errors)))["live-errors"].figure
    assert figure
    assert [(line["name"], line["y"]) for line in figure["data"]] == [("job: worker_lost", [0, 30])]


@pytest.mark.parametrize(
    ("alerts", "note"),
    [
        (None, "PAWQUEUE_PROMETHEUS_URL"),
        ((), "No alerts are firing."),
        ((Alert("QueueGrows", "page", "It grows.", NOW),), "1 alert"),
    ],
)
def test_alerts_come_from_prometheus(alerts: Any, note: str) -> None:
    assert note in live.contents(view(metrics=replace(all_metrics(), alerts=alerts)))["live-alerts"].note


def test_rates_appear_after_two_readings() -> None:
    content = live.contents(view(metrics=Metrics({}, {"gateway": UP, "workers": UP}, None, 900)))["live-flow"]
    assert content.state is CardState.EMPTY
    assert content.note == "Rates appear after the second reading."


def test_capacity_shows_the_effect_of_one_more_worker() -> None:
    of = metrics(
        images=[series(*[40] * 13, instance="http://w/metrics")],
        jobs=[series(*[300] * 13, queue="bulk", state="queued")],
        accepted=[series(10)],
    )
    found = capacity.contents(view(metrics=of, status=status(queued=299)))
    stats = {stat.name: (stat.value, stat.unit) for stat in found["capacity-now"].stats}
    assert stats["One worker at full load"] == ("40", "images/s, measured")
    assert stats["Backlog"][0] == "300"
    assert stats["Time to clear the queue"][0] == "10 s"
    assert stats["Workers needed"][0] == "1"
    table = found["capacity-more"].table
    assert table
    assert table.body[1] == ("2 workers (1 more)", "80", "12 %", "4.3 s")


def test_the_rate_of_a_worker_is_measured_under_full_load_and_estimated_otherwise() -> None:
    images, busy = series(10, 30, 10, instance="w"), series(0.25, 0.75, 0.01, instance="w")
    assert capacity.worker_rate({"images": (images,), "busy": (busy,)}) == (40.0, False)
    brief = series(0, 7, 0, queue="bulk", state="queued")
    assert capacity.worker_rate({"images": (images,), "busy": (busy,), "jobs": (brief,)}) == (40.0, False)
    queued = series(*[7] * 13, queue="bulk", state="queued")
    full = {"images": (series(*[50] * 12, 30, instance="w"),), "busy": (busy,), "jobs": (queued,)}
    assert capacity.worker_rate(full) == (30.0, True)  # the 50 images/s precede the first full minute of load
    assert capacity.worker_rate({}) == (None, False)


def test_confusion_and_calibration_are_computed_from_the_test_predictions() -> None:
    found = [("cat", "cat", 0.91), ("cat", "dog", 0.55), ("dog", "dog", 0.99), ("dog", "dog", 1.0)]
    assert models.confusion(["cat", "dog"], found) == [[1, 1], [0, 2]]
    points = models.calibration_points(found)
    assert [(round(confidence, 3), right, n) for confidence, right, n in points] == [(0.55, 0.0, 1), (0.967, 1.0, 3)]


@pytest.mark.parametrize(
    ("versions", "note"),
    [
        ([], "Not served by any worker"),
        (["compact-c539273e"], "Served by 1 of 1 workers"),
        (["compact-c539273e", "2"], "Served by 1 of 2 workers; the others serve 2"),
    ],
)
def test_workers_that_serve_another_model_are_reported(versions: list[str], note: str) -> None:
    of = snapshot(status=status(workers=tuple(heartbeat(version=version) for version in versions)))
    assert of.served
    served = replace(of.served, manifest={**of.served.manifest, "version": "compact-c539273e"})
    assert models.serving_note(replace(of, served=served)) == note


def test_the_strategies_of_workers_are_shown_with_what_was_measured() -> None:
    measured = {"float32/wide": 9.0, "float32/parts_8": 3.21, "bfloat16/frozen": 12.0}
    strategies = (ChosenStrategy(1, "wide"), ChosenStrategy(32, "parts_8", measured))
    of = snapshot(
        status=status(
            workers=(replace(heartbeat("new"), strategies=strategies), replace(heartbeat("old"), strategies=()))
        )
    )
    table = models.contents(View(of, ANYONE))["models-strategies"].table
    assert table is not None
    assert table.body == (
        ("new", "float32", "1 image", "all cores", "not measured", "-"),
        (
            *("new", "float32", "32 images", "parts of 8, one core each", "3.2 ms"),
            "all cores 9.0 ms, all cores, constant weights in bfloat16 12.0 ms",
        ),
    )


def test_runs_are_compared_by_metrics_and_differing_parameters() -> None:
    runs = (
        Run("1", "first", "FINISHED", NOW, {"accuracy": 0.9}, {"rate": "0.1", "seed": "1"}),
        Run("2", "second", "FAILED", None, {}, {"rate": "0.2", "seed": "1"}),
    )
    table = models.compare(runs)
    assert table.head == ("Run", "first", "second")
    assert table.body[0] == ("status", "finished", "failed")
    assert table.body[2:] == (("accuracy", "0.9", "-"), ("rate", "0.1", "0.2"))


def test_cards_are_computed_once_for_all_viewers_who_see_the_same_jobs(make_world: MakeWorld) -> None:
    services = make_world().services
    own, everything = Viewer("me", sees_all=False), Viewer("boss", sees_all=True)
    of = snapshot(jobs=(row(owner="me"), row(owner="you")))

    def values(of: Snapshot, viewer: Viewer) -> list[Any]:
        return predictions.PAGE.cached_values(services, View(of, viewer))

    assert values(of, own) is values(of, own)
    assert values(of, everything) is not values(of, own)
    assert values(replace(of, sequence=2), own) is not values(of, own)


def test_the_predictions_page_counts_only_the_jobs_of_the_viewer() -> None:
    jobs = snapshot(jobs=(row(owner="me"), row(owner="you")))
    own, none = (predictions.contents(View(jobs, Viewer(name, sees_all=False))) for name in ("me", "someone"))
    assert own["predictions-mix"].note == "Based on the last 1 finished job"
    assert none["predictions-mix"].note == "No jobs have finished recently."


def test_all_models_are_listed_with_their_jobs_and_problems() -> None:
    held = (
        HeldModel("cats-dogs", "0", "ready"),  # replaced a moment ago
        HeldModel("cats-dogs", "1", "ready"),
        HeldModel("birds", "3", "failed", "It is damaged."),
    )
    worker = replace(heartbeat(), serves=("cats-dogs",), models=held)
    queues = {"bulk": QueueStats(3, 1), "bulk.birds": QueueStats(7), "interactive.cats-dogs": QueueStats(1)}
    of = status(stats=LedgerStats(queues), workers=(worker,), live={"birds": "3", "cats-dogs": "1"})
    table = models.contents(view(status=of))["models-all"].table
    assert table
    assert table.body == (
        ("birds", "3", "7", "0", "0", "0", "3: It is damaged."),
        ("cats-dogs (default)", "1", "4", "1", "1", "1", "-"),
    )
    workers = live.contents(view(status=of))["live-workers"].table
    assert workers
    assert workers.body[0][1] == "cats-dogs@0, cats-dogs@1"


def test_the_versions_of_a_model_are_compared() -> None:
    counts = {
        "birds": [
            VersionCounts("2", 200, 2, 178.2, {range_of(8): 150, range_of(90): 50}, {"owl": 150, "wren": 48}),
            VersionCounts("3", 1000, 0, 900, {range_of(10): 1000}, {f"bird {n}": 200 for n in range(5)}),
            VersionCounts("1"),
        ]
    }
    canary = Change("2", "ada", "", 3, 0, 0, 0, percent=5)
    of = view(status=status(live={"birds": "3"}, canaries={"birds": canary}), counts=counts)
    table = models.contents(of)["models-versions"].table
    assert table
    assert [row[:5] for row in table.body] == [
        ("birds", "2 (canary)", "200", "1.0 %", "0.3 to 3.6 %"),
        ("birds", "3 (live)", "1,000", "0.0 %", "0.0 to 0.4 %"),
    ]
    assert [row[7:] for row in table.body] == [
        ("90.0 %", "owl 76 %, wren 24 %"),
        ("90.0 %", "bird 0 20 %, bird 1 20 %, bird 2 20 %, bird 3 20 %, ..."),
    ]
    models_table = models.contents(of)["models-all"].table
    assert models_table
    assert models_table.body[0][1] == "3 (canary: 2, 5 %)"
    assert models.contents(view(status=status()))["models-versions"].note.startswith("No version has processed")


def test_the_accuracy_by_feedback_is_shown_for_each_version() -> None:
    feedback = {
        "birds": [VersionFeedback("2", {1: Count(8, 10), 2: Count(8, 10)}), VersionFeedback("3", {2: Count(9, 10)})]
    }
    of = view(status=status(live={"birds": "3"}), feedback=feedback)
    table = models.contents(of)["models-feedback"].table
    assert table
    assert table.body == (
        ("birds", "2", "80.0 %", "58.4 to 91.9 %", "20"),
        ("birds", "3 (live)", "90.0 %", "59.6 to 98.2 %", "10"),
    )
    assert models.contents(view(status=status()))["models-feedback"].note.startswith("Nobody has reported")


def shadows(problem: str = "", newest: str = "b", other: str = "a") -> dict[str, ShadowView]:
    """A model with a shadow that was compared, and two jobs on which it differs."""
    differing = [
        Disagreement(job_id, at, "1", "2", "owl", "wren", 0.6, 0.9) for at, job_id in ((2_000, newest), (1_000, other))
    ]
    current = Shadow("2", 0.2, "", "", 4, 0, problem)
    return {"birds": ShadowView(current, [Agreement("1", "2", 90, 10, 3, 1, 6, 0)], differing)}


def test_the_agreement_of_shadows_is_shown_for_each_pair_of_versions() -> None:
    worker = replace(heartbeat(), shadows=(HeldModel("birds", "2", "ready"),))
    of = status(live={"birds": "1"}, workers=[worker, replace(worker, id="other")])
    table = models.contents(view(status=of, shadows=shadows()))["models-shadows"].table
    assert table
    numbers = ("birds", "2", "1", "90.0 %", "82.6 to 94.5 %", "100", "4 of 10", "9 of 10", "0.125")
    assert table.body == ((*numbers, "20 % of the jobs, 2 workers"),)
    new = {"birds": ShadowView(Shadow("3", 1, "", "", 4, 0), shadows()["birds"].agreement)}
    table = models.contents(view(status=of, shadows=new))["models-shadows"].table
    assert table
    assert [(line[1], line[5], line[-1]) for line in table.body] == [
        ("2", "100", "Removed"),
        ("3", "0", "100 % of the jobs, 0 workers"),
    ]
    assert models.contents(view(status=status()))["models-shadows"].note.startswith("No model has a shadow")


def test_the_reason_why_a_shadow_does_not_run_is_shown() -> None:
    worker = replace(heartbeat(), shadows=(HeldModel("birds", "2", "failed", "It is damaged."),))
    of = status(live={"birds": "1"}, workers=[worker])
    for problem, shown in (
        ("", "20 % of the jobs, 0 workers. It is damaged."),
        ("It crashed.", "Stopped: It crashed."),
    ):
        table = models.contents(view(status=of, shadows=shadows(problem)))["models-shadows"].table
        assert table
        assert table.body[0][-1] == shown


def test_images_on_which_shadows_differ_link_to_the_details_of_their_jobs() -> None:
    known = row()
    of = snapshot(jobs=(known,), shadows=shadows(other=known.job_id))
    newest, other = models.contents(View(of, ANYONE, root="/pets"))["models-disagreements"].entries
    assert "birds@1 owl 60 %, shadow 2 wren 90 %" in newest.text
    assert (newest.href, other.href) == ("", f"/pets/predictions?job={known.job_id}")


def test_viewers_see_only_their_own_images_on_which_shadows_differ() -> None:
    jobs = (row(owner="ada"), row(owner="grace"))
    of = snapshot(jobs=jobs, shadows=shadows("", *(job.job_id for job in jobs)))
    (entry,) = models.contents(View(of, Viewer("ada")))["models-disagreements"].entries
    assert jobs[0].job_id in entry.href
    assert models.contents(View(of, Viewer("eve")))["models-disagreements"].entries == ()


def test_the_live_page_shows_one_model_if_its_address_names_it() -> None:
    queues = {"bulk": QueueStats(3, 1), "bulk.birds": QueueStats(7), "interactive.birds": QueueStats(2)}
    totals = {("bulk", "succeeded", "cat"): 5, ("bulk.birds", "succeeded", "owl"): 11}
    of = status(stats=LedgerStats(queues, totals), live={"birds": "3", "cats-dogs": "1"})

    def now(search: str) -> dict[str, str]:
        content = live.contents(View(snapshot(status=of), ANYONE, search))["live-now"]
        return {stat.name: stat.value for stat in content.stats}

    assert (now("")["Queued"], now("")["Finished"]) == ("12", "16")
    assert (now("?model=birds")["Queued"], now("?model=birds")["Finished"]) == ("9", "11")
    assert now("?model=cats-dogs")["Queued"] == "3"
    assert now("?model=made-up") == now("")
    links = str(live.PAGE.layout(View(snapshot(status=of), ANYONE, "?model=birds"), []))
    assert "?model=birds" in links
    assert str(live.PAGE.layout(view(), [])).count("?model=") == 0


def test_the_capacity_page_shows_one_model_if_its_address_names_it() -> None:
    queues = {"bulk": QueueStats(3, 1), "bulk.birds": QueueStats(7), "interactive.birds": QueueStats(2)}
    workers = [replace(heartbeat(), serves=("cats-dogs",)), replace(heartbeat(), serves=("cats-dogs", "birds"))]
    of = status(stats=LedgerStats(queues), workers=workers, live={"birds": "3", "cats-dogs": "1"})
    measured = metrics(
        images=[series(50, instance="w")],
        images_by_model=[series(20, instance="w", model="birds"), series(30, instance="w", model="cats-dogs")],
        busy=[series(0.5, instance="w")],
    )

    def now(search: str) -> dict[str, str]:
        content = capacity.contents(View(snapshot(status=of, metrics=measured), ANYONE, search))["capacity-now"]
        return {stat.name: stat.value for stat in content.stats}

    assert [now("")[name] for name in ("Workers", "Backlog", "Throughput")] == ["2", "13", "50"]
    assert [now("?model=birds")[name] for name in ("Workers", "Backlog", "Throughput")] == ["1", "9", "20"]
    assert "?model=birds" in str(capacity.PAGE.layout(View(snapshot(status=of), ANYONE), []))


def test_the_drift_page_shows_a_model_only_if_the_dashboard_has_its_test_images() -> None:
    of = status(live={"birds": "3", "cats-dogs": "1"})

    def notes(search: str) -> set[str]:
        return {content.note for content in drift.contents(View(snapshot(status=of), ANYONE, search)).values()}

    assert notes("?model=cats-dogs") == notes("") != notes("?model=birds")
    (note,) = notes("?model=birds")
    assert "no test images of this model" in note
    assert "?model=birds" in str(drift.PAGE.layout(View(snapshot(status=of), ANYONE), []))


def test_the_card_of_webhooks_shows_totals_and_how_late_deliveries_are() -> None:
    empty = live.contents(view())["live-webhooks"]
    assert (empty.state, empty.note) == (CardState.EMPTY, "No event was sent to a webhook yet.")
    outbox = OutboxStats(90_000, 2, {"delivered": 1234, "failed": 7, "dead": 3})
    stats = live.contents(view(outbox=outbox))["live-webhooks"].stats
    assert [(stat.name, stat.value) for stat in stats] == [
        ("Delivered", "1,234"),
        ("Failed tries", "7"),
        ("Dead deliveries", "2"),
        ("Oldest due", "for 1 min 30 s"),
    ]
    idle = live.contents(view(outbox=replace(outbox, oldest_due_ms=0)))["live-webhooks"].stats
    assert idle[-1].value == "none"
