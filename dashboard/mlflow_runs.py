"""Training runs out of an MLflow server, over its REST interface."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from dashboard.snapshot import Run, SourceState
from dashboard.sources import problem_of

_RUNS_MAX = 20
_EXPERIMENTS_MAX = 20
#: Runs change slowly; they are asked for no more often than this.
_PAUSE_S = 30.0


class MlflowReader:
    """Asks one server now and then."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(base_url=url, timeout=5.0, transport=transport, trust_env=False)
        self._state = SourceState("MLflow")
        self._runs: tuple[Run, ...] = ()
        self._next_s = 0.0

    def read(self, now_s: float) -> tuple[SourceState, tuple[Run, ...]]:
        """The latest runs, newest first, as last told."""
        if now_s >= self._next_s:
            self._next_s = now_s + _PAUSE_S
            try:
                self._runs, self._state = self._ask(), self._state.answered(now_s)
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                self._state = self._state.failed(now_s, problem_of(error))
        return self._state, self._runs

    def _ask(self) -> tuple[Run, ...]:
        found = self._post("experiments/search", {"max_results": _EXPERIMENTS_MAX}).get("experiments", [])
        if not found:
            return ()
        ids = [experiment["experiment_id"] for experiment in found]
        order = ["attributes.start_time DESC"]
        query = {"experiment_ids": ids, "max_results": _RUNS_MAX, "order_by": order}
        return tuple(run_of(row) for row in self._post("runs/search", query).get("runs", []))

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._client.post(f"/api/2.0/mlflow/{path}", json=body)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


def run_of(row: Mapping[str, Any]) -> Run:
    """A run as MLflow tells it."""
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
