"""Which result was sent to which MLflow, noted beside it, so that a run with nothing new need not ask."""

import os
from pathlib import Path

_DEFAULT_URI = "sqlite:///mlflow.db"
_NOTE_FILE = "recorded.txt"


def tracking_uri() -> str:
    """Address of the MLflow server or file: PAWQUEUE_MLFLOW_TRACKING_URI or MLFLOW_TRACKING_URI, else a file."""
    return os.environ.get("PAWQUEUE_MLFLOW_TRACKING_URI") or os.environ.get("MLFLOW_TRACKING_URI") or _DEFAULT_URI


def is_recorded(build: Path, version: str) -> bool:
    """Tell whether this version of the bundle was sent from the folder `build` to the present address."""
    try:
        return (build / _NOTE_FILE).read_text(encoding="utf-8") == _note(version)
    except FileNotFoundError:
        return False


def note_recorded(build: Path, version: str) -> None:
    """Remember that this version was sent."""
    (build / _NOTE_FILE).write_text(_note(version), encoding="utf-8")


def _note(version: str) -> str:
    return f"{version} {tracking_uri()}\n"
