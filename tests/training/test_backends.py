"""Training, evaluation and export with other Keras backends; backends that are not installed are skipped."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bundle.manifest import read_manifest
from tests.training.synthetic import ROOT, tiny_params


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_all_stages_run_on_another_backend(prepared: Path, tmp_path: Path, backend: str) -> None:
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed; run `pip install {backend}` to run this test")
    values = yaml.safe_load(tiny_params(epochs=12).model_dump_json())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    for stage in ("train", "evaluate", "export"):
        done = subprocess.run(
            [sys.executable, "-m", f"training.stages.{stage}", "--prepared", str(prepared)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    epochs = json.loads((tmp_path / "build" / "trained" / "history.json").read_text(encoding="utf-8"))["epochs"]
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    assert read_manifest(tmp_path / "build" / "bundle").metrics["accuracy"].value > 0.7
