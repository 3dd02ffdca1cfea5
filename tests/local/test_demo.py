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

from tests.support.services import ROOT

PHOTOS = ROOT / "examples" / "photos"


@pytest.fixture
def temporary() -> Iterator[Path]:
    """An empty folder. Its path is short, because it will contain the socket of Redis."""
    with tempfile.TemporaryDirectory(prefix="paw-") as folder:
        yield Path(folder)


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
