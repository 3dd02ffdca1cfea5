"""The exploration notebook runs on drawn pictures, and holds no output: outputs would show the data."""

import json
import shutil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from tests.training.drawn import ROOT, tiny_params, write_folders
from training.fit import train
from training.prepare import prepare

NOTEBOOK = ROOT / "training" / "exploration.ipynb"


def cells() -> list[dict[str, Any]]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def test_no_output_is_kept() -> None:
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells())


def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = tiny_params(epochs=1, architecture="baseline_cnn")
    prepare([write_folders(tmp_path / "pictures", 60)], params, tmp_path / "build" / "prepared")
    train(tmp_path / "build" / "prepared", params, tmp_path / "state", tmp_path / "build" / "trained")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAWQUEUE_BUILD", str(tmp_path / "build"))
    mpl.use("Agg")
    names: dict[str, Any] = {}
    for cell in cells():
        exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    assert len(plt.get_fignums()) >= 6
    plt.close("all")
