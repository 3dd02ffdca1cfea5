"""The cost of a prediction is measured for several bundles side by side."""

from pathlib import Path

import keras
import pytest

from training.errors import TrainingError
from training.networks.architectures import NetworkSpec
from training.quality.cost import COLUMNS, measure_cost
from training.release.untrained import export_untrained


def test_bundles_are_measured_side_by_side(tmp_path: Path) -> None:
    small = export_untrained(NetworkSpec("baseline_cnn", 32, 32), tmp_path / "small", labels=["cat", "dog"], seed=1)
    large = export_untrained(NetworkSpec("baseline_cnn", 64, 64), tmp_path / "large", labels=["cat", "dog"], seed=1)
    rows = measure_cost([tmp_path / "small", tmp_path / "large"], rounds=1)
    assert [row["version"] for row in rows] == [small.version, large.version]
    assert [row["input"] for row in rows] == ["32 x 32", "64 x 64"]
    assert rows[0]["size_mb"] < rows[1]["size_mb"]
    assert [row["accuracy"] for row in rows] == [None, None]
    assert all(row[column] > 0 for row in rows for column in COLUMNS)


def test_cost_is_measured_on_tensorflow_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(TrainingError, match="KERAS_BACKEND=tensorflow"):
        measure_cost([], rounds=1)
