"""`python -m deploy.local demo` classifies a folder, writes a CSV file, and leaves nothing behind."""

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.images import draw
from tests.support.services import ROOT

PHOTOS = ROOT / "examples" / "photos"


@pytest.fixture
def temporary() -> Iterator[Path]:
    """An empty folder. Its path is short, because it will contain the socket of Redis."""
    with tempfile.TemporaryDirectory(prefix="paw-") as folder:
        yield Path(folder)


#: A network that takes bright images for the second label.
_NETWORK = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
inputs = keras.Input((16, 16, 3))
outputs = keras.layers.Dense(1, activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(inputs))
model = keras.Model(inputs, outputs)
model.set_weights([np.full((3, 1), 4.0), np.array([-6.0])])
model.save(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_make_demo_serves_the_model_in_a_file(tmp_path: Path, temporary: Path) -> None:
    network, photos, out = tmp_path / "net.keras", tmp_path / "photos", tmp_path / "results.csv"
    subprocess.run([sys.executable, "-c", _NETWORK, str(network)], check=True, capture_output=True)
    photos.mkdir()
    for name, shade in (("night", 20), ("day", 230)):
        (photos / f"{name}.png").write_bytes(draw((40, 30), (shade, shade, shade)))

    given = [f"MODEL={network}", "LABELS=dark,bright", "IMPORT=--scale 0..1", f"PHOTOS={photos}", f"OUT={out}"]
    environ = {**os.environ, "TMPDIR": str(temporary)}
    command = ["make", "demo", *given]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=180, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    with out.open(newline="") as file:
        labels = {row["file"]: row["label"] for row in csv.DictReader(file)}
    assert labels == {"night.png": "dark", "day.png": "bright"}


@pytest.mark.slow
def test_the_demo_labels_every_image_and_leaves_nothing_behind(tmp_path: Path, temporary: Path) -> None:
    out = tmp_path / "results.csv"
    command = [sys.executable, "-m", "deploy.local", "demo", "--photos", str(PHOTOS), "--out", str(out)]
    environ = {**os.environ, "TMPDIR": str(temporary)}

    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=110, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == {path.name for path in PHOTOS.iterdir()}
    assert all(row["label"] for row in rows)
    assert "dashboard  http://127.0.0.1:" in done.stdout
    assert not list(temporary.iterdir())
    assert not [process for process in psutil.process_iter(["environ"]) if _uses_temporary_folder(process, temporary)]


def _uses_temporary_folder(process: psutil.Process, folder: Path) -> bool:
    return (process.info["environ"] or {}).get("TMPDIR") == str(folder)
