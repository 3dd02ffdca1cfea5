"""The metrics of a worker."""

from contract.job import Timings
from contract.queues import QUEUES
from tests.support.ledger import NOW, make_job
from worker.upkeep.metrics import WorkerMetrics


def test_every_label_of_every_metric_has_a_closed_set_of_values() -> None:
    metrics = WorkerMetrics(batch_size=8)
    for queue in QUEUES:
        metrics.observe(make_job(queue), Timings(1, 2, 3, 4), NOW)
    allowed = {"queue": set(QUEUES), "phase": {"queue", "batch_wait", "decode", "predict", "total"}}
    labels = [sample.labels for metric in metrics.registry.collect() for sample in metric.samples]
    assert {name for label in labels for name in label} == {*allowed, "le"}
    for name, values in allowed.items():
        assert {label[name] for label in labels if name in label} == values
