"""A result is sent once to each address."""

from pathlib import Path

import pytest

from training.recorded import is_recorded, note_recorded


def test_a_result_is_recorded_by_version_and_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAWQUEUE_MLFLOW_TRACKING_URI", "http://one")
    assert not is_recorded(tmp_path, "compact-1")
    note_recorded(tmp_path, "compact-1")
    assert is_recorded(tmp_path, "compact-1")
    assert not is_recorded(tmp_path, "compact-2")
    monkeypatch.setenv("PAWQUEUE_MLFLOW_TRACKING_URI", "http://other")
    assert not is_recorded(tmp_path, "compact-1")
