"""The exploration notebook runs, and is stored without outputs, which would reveal the data."""

import json
import shutil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from tests.training.synthetic import ROOT, tiny_params
from training.stages.train import train

NOTEBOOK = ROOT / "training" / "exploration.ipynb"


def cells() -> list[dict[str, Any]]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def test_no_outputs_are_stored() -> None:
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells())


def test_every_cell_runs(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = tiny_params(epochs=1, architecture="baseline_cnn")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "prepared").symlink_to(prepared)
    train(prepared, params, tmp_path / "state", tmp_path / "build" / "trained")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAWQUEUE_BUILD", str(tmp_path / "build"))
    mpl.use("Agg")
    names: dict[str, Any] = {}
    for cell in cells():
        exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    assert len(plt.get_fignums()) >= 6
    plt.close("all")
