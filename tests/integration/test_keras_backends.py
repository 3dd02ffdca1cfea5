"""A bundle answers alike on every backend of Keras that is installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.services import ROOT

PROGRAM = """
import sys, json
from pathlib import Path
import numpy as np
from worker.runtime import choose_backend, load_model
choose_backend(sys.argv[1], 1)
model = load_model(Path("models/cats-dogs"), "float32", 4, 1)
pixels = np.random.default_rng(0).integers(0, 255, (5, model.height, model.width, 3), dtype=np.uint8)
shapes = [model.predict(pixels[:3]).shape, model.predict(pixels[:4]).shape]
print(json.dumps([model.backend, model.golden_distance(), *shapes]))
"""


def serve_by(backend: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", PROGRAM, backend]
    return subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_bundle_answers_as_it_did_at_export(backend: str) -> None:
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed; `pip install {backend}` and run again")
    done = serve_by(backend)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f'["{backend}", ')
    assert done.stdout.splitlines()[-1].endswith("[3, 2], [4, 2]]")


@pytest.mark.slow
def test_a_backend_that_is_not_installed_is_named(tmp_path: Path) -> None:
    if importlib.util.find_spec("torch"):
        pytest.skip("torch is installed here")
    done = serve_by("torch")
    assert "The backend torch is not installed beside Keras" in done.stderr
