"""The files that stages pass to each other, and output folders that are either complete or absent."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Written by `train`.
WEIGHTS_FILE, SPEC_FILE, HISTORY_FILE = "weights.npz", "network.json", "history.json"
#: Written by `evaluate`. The predictions are copied into the bundle.
METRICS_FILE, RESULTS_FILE, PREDICTIONS_FILE = "metrics.json", "results.json", "predictions.csv"


@contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that replaces `folder` on success. On an error, `folder` stays unchanged."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield staging
        staging.chmod(0o755)  # mkdtemp creates private folders
        _replace(folder, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace(folder: Path, new: Path) -> None:
    if not folder.exists():
        new.rename(folder)
        return
    old = folder.with_name(f".{folder.name}-old-{os.getpid()}")
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)
