"""How many probabilities are kept."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bundle.manifest import Outputs
from contract.ledger import keys
from tests.support.images import draw
from tests.unit.worker.conftest import Bench
from worker.pipeline.predict import probabilities

LABELS = tuple(f"label {number}" for number in range(21_843))


def row(count: int) -> NDArray[np.float32]:
    """Probabilities that rise, so that the last label is the most likely one."""
    values = np.arange(1, count + 1, dtype=np.float32)
    return values / values.sum()


def test_all_labels_are_kept_in_their_order_up_to_100() -> None:
    assert list(probabilities(row(100), LABELS[:100], 0)) == list(LABELS[:100])


def test_of_more_labels_the_five_most_likely_are_kept() -> None:
    assert list(probabilities(row(101), LABELS[:101], 0)) == [f"label {number}" for number in (100, 99, 98, 97, 96)]


@pytest.mark.parametrize(("top_k", "kept"), [(1, ["label 2"]), (2, ["label 2", "label 1"]), (100, 3)])
def test_top_k_keeps_the_most_likely_labels(top_k: int, kept: Any) -> None:
    found = list(probabilities(row(3), LABELS[:3], top_k))
    assert found == kept if isinstance(kept, list) else found == ["label 2", "label 1", "label 0"]


def test_a_job_of_a_model_with_21843_labels_takes_less_than_2_kb(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.model, "labels", LABELS)
    monkeypatch.setattr(bench.model, "predict", lambda pixels: Outputs(np.tile(row(len(LABELS)), (len(pixels), 1))))
    job_id = bench.submit(draw(), file="a" * 100 + ".jpg")
    bench.process(job_id)
    job = bench.job(job_id)
    assert job.result
    assert job.result.prediction
    assert list(job.result.prediction.probabilities) == [f"label {number}" for number in range(21_842, 21_837, -1)]
    stored = bench.ledger.client.hgetall(keys.job(job_id))
    assert sum(map(len, (*stored, *stored.values()))) < 2000
    assert len(json.dumps(job.to_dict())) < 2000


def test_an_image_of_a_model_with_several_labels_per_image_has_at_most_100(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.model, "labels", LABELS)
    monkeypatch.setattr(bench.model, "threshold", 0.0)
    monkeypatch.setattr(bench.model, "predict", lambda pixels: Outputs(np.tile(row(len(LABELS)), (len(pixels), 1))))
    job_id = bench.submit(draw())
    bench.process(job_id)
    result = bench.job(job_id).result
    assert result
    assert result.prediction
    assert result.prediction.labels
    assert len(result.prediction.labels) == 100
    assert result.prediction.labels[0] == LABELS[-1]
