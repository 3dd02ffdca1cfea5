"""What the Models page shows: the text files of the served bundle, and training runs from an MLflow server."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from bundle.locate import bundle_to_serve
from contract.csv_text import read_records
from contract.settings import Settings
from dashboard.data.snapshot import Run, ServedBundle
from dashboard.data.source import BUNDLE, MLFLOW, SourceState, describe

_MANIFEST, _CARD, _PREDICTIONS = "manifest.json", "README.md", "predictions.csv"
_FILE_MAX_BYTES = 50_000_000


class BundleReader:
    """Reads the bundle that workers on this machine serve, and rereads it when it changes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state = BUNDLE
        self._served: ServedBundle | None = None
        #: Path and modification time of the bundle that was read last.
        self._stamp: tuple[str, float] | None = None

    def read(self, now_s: float) -> tuple[SourceState, ServedBundle | None]:
        """The state of the bundle, and the bundle; None if it cannot be read."""
        folder = bundle_to_serve(self._settings.model, self._settings.state_dir)
        try:
            stamp = (str(folder.resolve()), (folder / _MANIFEST).stat().st_mtime)
            if stamp != self._stamp:
                self._served, self._stamp = read_bundle(folder), stamp
            self._state = self._state.succeeded(now_s)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._served, self._stamp = None, None
            self._state = self._state.failed(now_s, _explain(folder, error))
        return self._state, self._served


def read_bundle(folder: Path) -> ServedBundle:
    """Read the text files of a bundle; its README and test predictions are optional.

    Raises:
        OSError, ValueError, KeyError, TypeError: The manifest is missing or invalid.
    """
    manifest = json.loads(_text(folder / _MANIFEST))
    if not isinstance(manifest, dict) or not isinstance(manifest["labels"], list):
        raise TypeError("not a manifest")
    card, predictions = folder / _CARD, folder / _PREDICTIONS
    return ServedBundle(
        manifest,
        _text(card) if card.is_file() else "",
        _predictions(predictions, [str(label) for label in manifest["labels"]]) if predictions.is_file() else (),
    )


def _predictions(path: Path, labels: list[str]) -> tuple[tuple[str, str, float], ...]:
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(_prediction(row, labels) for row in read_records(file))


def _prediction(row: dict[str, str], labels: list[str]) -> tuple[str, str, float]:
    predicted = max(labels, key=lambda label: float(row[label]))
    return row["label"], predicted, float(row[predicted])


def _text(path: Path) -> str:
    if path.stat().st_size > _FILE_MAX_BYTES:
        raise ValueError(f"{path.name} is too large")
    return path.read_text(encoding="utf-8")


def _explain(folder: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"No {_MANIFEST} in {folder}. Set PAWQUEUE_MODEL to the bundle that workers serve."
    return f"The bundle in {folder} is damaged. Export or copy it again."


_RUNS_MAX = 20
_EXPERIMENTS_MAX = 20
#: Training runs change slowly, so they are read less often than other sources.
_MLFLOW_PAUSE_S = 30.0


class MlflowReader:
    """Reads training runs over the REST API of an MLflow server."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(base_url=url, timeout=5.0, transport=transport, trust_env=False)
        self._state = MLFLOW
        self._runs: tuple[Run, ...] = ()
        self._next_s = 0.0

    def read(self, now_s: float) -> tuple[SourceState, tuple[Run, ...]]:
        """The state of the server, and the latest runs, newest first."""
        if now_s >= self._next_s:
            self._next_s = now_s + _MLFLOW_PAUSE_S
            try:
                self._runs, self._state = self._fetch(), self._state.succeeded(now_s)
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                self._state = self._state.failed(now_s, describe(self._state, error))
        return self._state, self._runs

    def _fetch(self) -> tuple[Run, ...]:
        found = self._post("experiments/search", {"max_results": _EXPERIMENTS_MAX}).get("experiments", [])
        if not found:
            return ()
        ids = [experiment["experiment_id"] for experiment in found]
        query = {"experiment_ids": ids, "max_results": _RUNS_MAX, "order_by": ["attributes.start_time DESC"]}
        return tuple(_run(row) for row in self._post("runs/search", query).get("runs", []))

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self._client.post(f"/api/2.0/mlflow/{path}", json=body)
        response.raise_for_status()
        found: dict[str, Any] = response.json()
        return found


def _run(row: Mapping[str, Any]) -> Run:
    info, data = row["info"], row.get("data", {})
    started_ms = info.get("start_time")
    return Run(
        id=str(info["run_id"]),
        name=str(info.get("run_name") or info["run_id"][:8]),
        status=str(info.get("status", "")),
        started_s=float(started_ms) / 1000 if started_ms else None,
        metrics=_pairs(data.get("metrics", [])),
        params=_pairs(data.get("params", [])),
    )


def _pairs(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {str(row["key"]): row["value"] for row in rows}
