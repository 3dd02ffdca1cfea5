"""The worker's autoscaler: its decisions, a simulation, and a run with real services."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks.autoscaler import MANIFEST, Autoscaler, Behavior, Spec, read_spec
from benchmarks.autoscaling import folders, one_folder, simulate, table, wave
from tests.deploy.autoscaling import OBJECTIVE_S, run
from tests.support.services import ROOT

SPEC = Spec("jobs", 100, 1, 10, up=Behavior(0, 2, 30), down=Behavior(60, 1, 60))


def test_the_autoscaler_scales_up_to_the_target_no_faster_than_its_limit() -> None:
    scaler = Autoscaler(SPEC)
    assert scaler.decide(0, 1, 950) == 3  # ten are needed; the limit is two in 30 s
    assert scaler.decide(15, 3, 950) == 3
    assert scaler.decide(31, 3, 950) == 5
    assert scaler.decide(46, 5, 545) == 5  # within a tenth of the target


def test_the_autoscaler_scales_down_slowly_after_the_stabilization_window() -> None:
    scaler = Autoscaler(SPEC)
    assert scaler.decide(0, 4, 400) == 4
    assert scaler.decide(30, 4, 0) == 4
    assert scaler.decide(61, 4, 0) == 3
    assert scaler.decide(76, 3, 0) == 3
    assert scaler.decide(122, 3, 0) == 2
    assert scaler.decide(200, 1, 0) == 1  # never below the minimum


def test_a_short_peak_does_not_scale_up_within_the_stabilization_window() -> None:
    scaler = Autoscaler(replace(SPEC, up=replace(SPEC.up, window_s=60)))
    assert scaler.decide(0, 1, 100) == 1
    assert scaler.decide(15, 1, 300) == 1
    assert scaler.decide(61, 1, 300) == 3


@pytest.mark.parametrize("load", [one_folder, folders, wave])
def test_the_shipped_settings_do_not_flap(load: object) -> None:
    assert simulate(read_spec(), load, 3600).turns <= 1  # type: ignore[arg-type]


def test_settings_that_flap_are_detected() -> None:
    assert simulate(replace(read_spec(), down=Behavior(0, 8, 15)), wave, 3600).turns > 10


def test_the_documentation_contains_the_table_of_the_simulation() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text()
    assert "\n".join(table()) in text, "run `python -m benchmarks.autoscaling` and copy its table to docs/scaling.md"


def test_keda_uses_the_behavior_and_target_of_the_autoscaler_that_it_replaces() -> None:
    keda = yaml.safe_load((ROOT / "deploy/k8s/components/keda/scaled-object.yaml").read_text())["spec"]
    autoscaler = next(
        document["spec"]
        for document in yaml.safe_load_all(MANIFEST.read_text())
        if document and document["kind"] == "HorizontalPodAutoscaler"
    )
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == autoscaler["behavior"]
    (metric,) = autoscaler["metrics"]
    assert keda["triggers"][0]["metadata"]["threshold"] == metric["external"]["target"]["averageValue"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_scale_up_and_down_and_no_job_is_lost(tmp_path: Path) -> None:
    images = 2500
    trace = run(tmp_path, images)
    replicas = [row[3] for row in trace.rows]
    assert (max(replicas), replicas[-1]) == (trace.spec.max_replicas, trace.spec.min_replicas)
    assert trace.turns == 1, replicas
    assert trace.succeeded == trace.accepted
    assert set(trace.single.values()) == {("succeeded", 1)}
    assert trace.exits == [0] * (trace.spec.max_replicas - trace.spec.min_replicas)
    # More workers on the same cores are hardly faster, but scaling must not make a folder much slower.
    one_worker_s = images * OBJECTIVE_S / trace.spec.target
    assert all(cleared_s - sent_s < 3 * one_worker_s for sent_s, cleared_s in trace.bursts), trace.bursts
