"""The metrics of a worker."""

from contract.job import Timings
from contract.queues import QUEUES
from tests.support.ledger import NOW, make_job
from worker.upkeep.metrics import WorkerMetrics


def test_every_label_of_every_metric_has_a_closed_set_of_values() -> None:
    metrics = WorkerMetrics(batch_size=8)
    for queue in QUEUES:
        metrics.observe(make_job(queue), "cats-dogs", Timings(1, 2, 3, 4), NOW)
    phases = {"queue", "batch_wait", "decode", "predict", "total"}
    allowed = {"queue": set(QUEUES), "phase": phases, "model": {"cats-dogs"}}
    labels = [sample.labels for metric in metrics.registry.collect() for sample in metric.samples]
    assert {name for label in labels for name in label} == {*allowed, "le"}
    for name, values in allowed.items():
        assert {label[name] for label in labels if name in label} == values
