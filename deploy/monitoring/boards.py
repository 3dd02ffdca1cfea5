"""The Grafana boards: `python -m deploy.monitoring.boards` writes them as JSON, and as ConfigMaps for Kubernetes.

Start reading at `BOARDS`. Every panel names its unit, and a section of the documentation that says what to do. All
gateways export the same counts of the ledger, so these are aggregated with `max`; what each process counts for itself
is summed.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

#: Where the files are written: for Compose, and for Kubernetes.
BOARDS_FOLDER = Path(__file__).with_name("grafana") / "boards"
CONFIG_MAPS = Path(__file__).parents[1] / "k8s" / "components" / "monitoring" / "boards.yaml"

_WIDTH = 24
_HEIGHT = {"stat": 4, "timeseries": 8}
_DATASOURCE = {"type": "prometheus", "uid": "${source}"}
#: Matches the models that are chosen at the top of a board.
_MODEL = 'model=~"$model"'


@dataclass(frozen=True)
class Query:
    """One query of a panel; `legend` names its lines, with labels as `{{label}}`."""

    promql: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One chart or number."""

    title: str
    #: A unit of Grafana: https://grafana.com/docs/grafana/latest/panels-visualizations/configure-standard-options/#unit
    unit: str
    about: str
    #: The section that says what to do, as a path in the repository.
    runbook: str
    queries: tuple[Query, ...]
    kind: Literal["stat", "timeseries"] = "timeseries"
    width: int = 8
    #: From this value on, a number is red; None for never.
    alarm: float | None = None


@dataclass(frozen=True)
class Board:
    """One board; `has_models` adds a choice of models."""

    name: str
    title: str
    about: str
    panels: tuple[Panel, ...]
    has_models: bool = False


def _ops(section: str) -> str:
    return f"docs/operations.md#{section}"


def _or_zero(promql: str, label: str = "") -> str:
    """A query whose series exist only after something has happened: 0 until then, with `none` as the label."""
    zero = f'label_replace(vector(0), "{label}", "none", "", "")' if label else "vector(0)"
    return f"{promql} or on () {zero}"


def _quantiles(selector: str, by: str = "", legend: str = "") -> tuple[Query, ...]:
    labels = f"le, {by}" if by else "le"
    return tuple(
        Query(
            f"histogram_quantile({q / 100}, sum by ({labels}) (rate(pawqueue_job_seconds_bucket{{{selector}}}[5m])))",
            f"{legend} p{q}".strip(),
        )
        for q in (50, 95, 99)
    )


def _jobs(window: str, *where: str) -> str:
    """The rate of finished jobs, still by model, queue, status and label."""
    selector = f"{{{', '.join(where)}}}" if where else ""
    return f"max by (model, queue, status, label) (rate(pawqueue_jobs_total{selector}[{window}]))"


_UNFINISHED = "max by (model, queue, state) (pawqueue_queue_jobs)"
_FINISHED = _jobs("1m")
_OF_MODEL = _jobs("5m", _MODEL)
_SUCCEEDED, _FAILED = (_jobs("5m", f'status="{status}"', _MODEL) for status in ("succeeded", "failed"))

OPERATOR = Board(
    "operator",
    "Pawqueue: operator",
    "Whether the service works: what is down, what waits, what fails, and which alerts fire.",
    (
        Panel(
            "Gateways",
            "short",
            "Gateways that Prometheus reaches.",
            _ops("pawqueuedown"),
            (Query("count(pawqueue_ledger_up)", "gateways"),),
            "stat",
            4,
        ),
        Panel(
            "Redis responds",
            "bool_yes_no",
            "Whether all gateways reach Redis. If not, uploads get 503.",
            _ops("pawqueueledgerdown"),
            (Query("min(pawqueue_ledger_up)", "Redis"),),
            "stat",
            4,
        ),
        Panel(
            "Workers",
            "short",
            "Workers with a live heartbeat. Without one, jobs wait.",
            _ops("pawqueuenoworker"),
            (Query("max(pawqueue_workers)", "workers"),),
            "stat",
            4,
        ),
        Panel(
            "Firing alerts",
            "short",
            "Alerts of Pawqueue that fire now.",
            _ops("alerts"),
            (Query(_or_zero('count(ALERTS{alertname=~"Pawqueue.+", alertstate="firing"})'), "alerts"),),
            "stat",
            4,
            alarm=1,
        ),
        Panel(
            "Dead letters",
            "short",
            "Jobs whose image killed its workers and that were not retried or dropped.",
            _ops("pawqueuedeadletters"),
            (Query("max(pawqueue_dead_jobs)", "jobs"),),
            "stat",
            4,
            alarm=1,
        ),
        Panel(
            "Event streams",
            "short",
            "Open streams of server-sent events, of all gateways.",
            "docs/security.md#limits",
            (Query("sum(pawqueue_event_streams)", "streams"),),
            "stat",
            4,
        ),
        Panel(
            "Unfinished jobs",
            "short",
            "Jobs that are queued or running. A queue that only grows needs more workers.",
            _ops("pawqueuequeuewillnotclear"),
            (Query(f"sum by (queue, state) ({_UNFINISHED})", "{{queue}} {{state}}"),),
        ),
        Panel(
            "Finished jobs",
            "cps",
            "Jobs that finished per second, by status.",
            _ops("pawqueueerrorratio"),
            (Query(f"sum by (status) ({_FINISHED})", "{{status}}"),),
        ),
        Panel(
            "Oldest job",
            "s",
            "How long the oldest queued job has waited.",
            _ops("pawqueueoldestjobtooold"),
            (Query("max by (queue) (pawqueue_oldest_job_age_seconds)", "{{queue}}"),),
        ),
        Panel(
            "Time from acceptance to result",
            "s",
            "Of jobs that workers finished in the last 5 minutes.",
            _ops("pawqueueoldestjobtooold"),
            _quantiles('phase="total"'),
        ),
        Panel(
            "Requests",
            "reqps",
            "HTTP requests per second, by status.",
            _ops("pawqueuerefusedjobs"),
            (Query("sum by (status) (rate(pawqueue_http_requests_total[1m]))", "{{status}}"),),
        ),
        Panel(
            "Time to respond",
            "s",
            "p95 of each route, including waits for results.",
            "docs/operations.md#where-to-look-first",
            (
                Query(
                    "histogram_quantile(0.95, "
                    "sum by (le, method, route) (rate(pawqueue_http_request_seconds_bucket[5m]))) > 0",
                    "{{method}} {{route}}",
                ),
            ),
        ),
        Panel(
            "Failed jobs",
            "percentunit",
            "Share of the jobs of the last 5 minutes that failed.",
            _ops("pawqueueerrorratio"),
            (Query(_or_zero("max(pawqueue:jobs_failed:ratio5m)"), "failed"),),
        ),
        Panel(
            "Errors of jobs",
            "cps",
            "Jobs that finished with an error per second, by code.",
            _ops("pawqueueerrorratio"),
            (
                Query(
                    _or_zero("sum by (code) (max by (code) (rate(pawqueue_job_errors_total[5m])))", "code"), "{{code}}"
                ),
            ),
        ),
        Panel(
            "Refused and rejected requests",
            "reqps",
            "Requests and images that a gateway did not accept per second, by code.",
            _ops("pawqueuerefusedjobs"),
            (Query(_or_zero("sum by (reason) (rate(pawqueue_refused_total[5m]))", "reason"), "{{reason}}"),),
        ),
        Panel(
            "Refused by the web server",
            "cps",
            "Requests refused and connections closed per second before they reached the application, by reason.",
            "docs/security.md#limits",
            (Query("sum by (reason) (rate(pawqueue_server_refused_total[5m]))", "{{reason}}"),),
        ),
        Panel(
            "Memory of the ledger",
            "bytes",
            "Memory that Redis uses. Above the limit, uploads are refused.",
            _ops("pawqueueledgermemory"),
            (
                Query("max(pawqueue_ledger_bytes)", "used"),
                Query("max(pawqueue_ledger_limit_bytes)", "limit"),
            ),
        ),
        Panel(
            "Results that came too late",
            "cps",
            "Results that were dropped per second, because another worker had claimed the job.",
            "docs/guarantees.md#what-is-guaranteed-and-how",
            (Query("sum(rate(pawqueue_worker_late_commits_total[5m]))", "dropped"),),
        ),
    ),
)

MODEL_OWNER = Board(
    "model-owner",
    "Pawqueue: model owner",
    "What the versions of a model do: labels, errors, speed, accuracy, canaries and shadows.",
    (
        Panel(
            "Predictions",
            "cps",
            "Jobs that succeeded per second, by label. A label that suddenly becomes frequent hints at drift.",
            "docs/lifecycle.md#measure-the-accuracy-on-real-images",
            (
                Query(
                    f"sum by (model, label) ({_SUCCEEDED})",
                    "{{model}}: {{label}}",
                ),
            ),
        ),
        Panel(
            "Jobs by version",
            "cps",
            "Jobs that each version processed per second.",
            "docs/lifecycle.md#promote-a-version",
            (
                Query(
                    f"max by (model, version) (rate(pawqueue_version_jobs_total{{{_MODEL}}}[5m]))",
                    "{{model}}@{{version}}",
                ),
            ),
        ),
        Panel(
            "Failed jobs",
            "percentunit",
            "Share of the jobs of a model that failed in the last 5 minutes.",
            _ops("pawqueueerrorratio"),
            (
                Query(
                    _or_zero(f"sum by (model) ({_FAILED}) / (sum by (model) ({_OF_MODEL}) > 0)", "model"), "{{model}}"
                ),
            ),
        ),
        Panel(
            "Exceptions of versions",
            "cps",
            "Jobs per second on which a version raised an exception; the live version retries those of a canary.",
            "docs/lifecycle.md#roll-back",
            (
                Query(
                    _or_zero(f"max by (model, version) (rate(pawqueue_version_errors_total{{{_MODEL}}}[5m]))", "model"),
                    "{{model}}@{{version}}",
                ),
            ),
        ),
        Panel(
            "Accuracy",
            "percentunit",
            "Accuracy of live versions by the feedback of the last 7 days, with its 95 % interval, and the target "
            "(0: none).",
            _ops("pawqueueaccuracylow"),
            (
                Query(
                    f"max by (model, version, bound) (pawqueue_feedback_accuracy{{{_MODEL}}})",
                    "{{model}}@{{version}} {{bound}}",
                ),
                Query("max(pawqueue_accuracy_target)", "target"),
            ),
        ),
        Panel(
            "Feedback",
            "short",
            "Labels that were reported in the last hour.",
            "docs/lifecycle.md#measure-the-accuracy-on-real-images",
            (
                Query(
                    _or_zero(
                        f"max by (model, version, correct) (increase(pawqueue_feedback_total{{{_MODEL}}}[1h]))", "model"
                    ),
                    "{{model}}@{{version}} correct: {{correct}}",
                ),
            ),
        ),
        Panel(
            "Time of the model call",
            "s",
            "How long the call took for the batch of a job.",
            "docs/lifecycle.md#compare-a-version-before-clients-see-it",
            _quantiles(f'phase="predict", {_MODEL}', "model", "{{model}}"),
        ),
        Panel(
            "Canaries",
            "percentunit",
            "Share of the jobs that a canary gets.",
            "docs/lifecycle.md#try-a-version-on-a-share-of-the-jobs",
            (
                Query(
                    _or_zero(f"max by (model, version) (pawqueue_canary_share{{{_MODEL}}})", "model"),
                    "{{model}}@{{version}}",
                ),
            ),
        ),
        Panel(
            "Canaries taken back",
            "short",
            "Canaries of the last hour that were worse than the live version.",
            _ops("pawqueuecanarytakenback"),
            (Query(f"max by (model) (increase(pawqueue_canaries_taken_back_total{{{_MODEL}}}[1h]))", "{{model}}"),),
        ),
        Panel(
            "Shadow: compared images",
            "cps",
            "Images per second that the shadow predicted too, by whether both versions agreed.",
            "docs/lifecycle.md#compare-a-version-before-clients-see-it",
            (
                Query(
                    _or_zero(f"max by (model, version, agreed) (rate(pawqueue_shadow_total{{{_MODEL}}}[5m]))", "model"),
                    "{{model}}@{{version}} agreed: {{agreed}}",
                ),
            ),
        ),
        Panel(
            "Shadow: images left out",
            "cps",
            "Images of the sample that the shadow did not predict per second, because jobs left no time or it failed.",
            "docs/lifecycle.md#compare-a-version-before-clients-see-it",
            (
                Query(
                    _or_zero(f"sum by (model) (rate(pawqueue_shadow_dropped_total{{{_MODEL}}}[5m]))", "model"),
                    "{{model}}",
                ),
            ),
        ),
        Panel(
            "Workers",
            "short",
            "Workers that take jobs of a model, and those that cannot load its live version.",
            _ops("pawqueuemodelnotserved"),
            (
                Query(f"max by (model) (pawqueue_model_workers{{{_MODEL}}})", "{{model}}"),
                Query(f"max by (model) (pawqueue_model_failing_workers{{{_MODEL}}})", "{{model}} failing"),
            ),
        ),
    ),
    has_models=True,
)

CAPACITY = Board(
    "capacity",
    "Pawqueue: capacity",
    "How much the service does, how much it could do, and which part reaches its limit first.",
    (
        Panel(
            "Time to clear the queues",
            "s",
            "Queued jobs divided by the current rate.",
            _ops("pawqueuequeuewillnotclear"),
            (Query(_or_zero("sum(pawqueue:jobs:queued) / (pawqueue:jobs_ended:rate1m > 0)"), "time"),),
            "stat",
            6,
        ),
        Panel(
            "Unfinished jobs per worker",
            "short",
            "What the autoscaler of the workers compares with its target.",
            "docs/scaling.md#why-the-autoscaler-behaves-as-it-does",
            (Query("max(pawqueue:jobs:unfinished) / clamp_min(max(pawqueue_workers), 1)", "jobs"),),
            "stat",
            6,
        ),
        Panel(
            "Images per second of one worker",
            "cps",
            "The fastest worker in the last 5 minutes. Plan for the peak rate divided by this, plus one worker.",
            _ops("scaling"),
            (Query("max(rate(pawqueue_worker_images_total[5m]))", "images"),),
            "stat",
            6,
        ),
        Panel(
            "Memory of the ledger",
            "percentunit",
            "Share of the limit above which uploads are refused.",
            _ops("pawqueueledgermemory"),
            (Query("max(pawqueue_ledger_bytes) / max(pawqueue_ledger_limit_bytes)", "used"),),
            "stat",
            6,
            alarm=0.8,
        ),
        Panel(
            "Accepted and finished jobs",
            "cps",
            "Where more are accepted than finished, a queue grows.",
            _ops("pawqueuequeuewillnotclear"),
            (
                Query(
                    f"clamp_min(sum({_FINISHED}) "
                    "+ sum(max by (model, queue, state) (deriv(pawqueue_queue_jobs[1m]))), 0)",
                    "accepted",
                ),
                Query("max(pawqueue:jobs_ended:rate1m)", "finished"),
            ),
        ),
        Panel(
            "Growth of the queues",
            "cps",
            "Change of the number of unfinished jobs per second, over 15 minutes. Above 0 for long: add workers.",
            _ops("pawqueuequeuewillnotclear"),
            (Query("deriv(pawqueue:jobs:unfinished[15m])", "jobs"),),
        ),
        Panel(
            "Jobs by queue",
            "cps",
            "Finished jobs per second of each queue.",
            "docs/scaling.md#which-part-reaches-its-limit-first",
            (Query(f"sum by (queue) ({_FINISHED})", "{{queue}}"),),
        ),
        Panel(
            "Busy workers",
            "percentunit",
            "Share of time that each worker spends predicting. Near 100 %, more workers help.",
            _ops("scaling"),
            (Query("max by (instance) (pawqueue_worker_busy_ratio)", "{{instance}}"),),
        ),
        Panel(
            "Images by worker",
            "cps",
            "Images that each worker predicted per second.",
            _ops("scaling"),
            (Query("sum by (instance) (rate(pawqueue_worker_images_total[1m]))", "{{instance}}"),),
        ),
        Panel(
            "Batch size",
            "short",
            "Mean number of images in a call. Larger batches mean more load, and less time per image.",
            "docs/scaling.md#which-part-reaches-its-limit-first",
            (
                Query(
                    "sum by (model) (rate(pawqueue_batch_size_sum[5m])) "
                    "/ (sum by (model) (rate(pawqueue_batch_size_count[5m])) > 0)",
                    "{{model}}",
                ),
            ),
        ),
        Panel(
            "Time in each phase",
            "s",
            "p95 of how long jobs wait in the queue, decode, wait for their batch, and are predicted.",
            "docs/scaling.md#which-part-reaches-its-limit-first",
            (
                Query(
                    "histogram_quantile(0.95, "
                    'sum by (le, phase) (rate(pawqueue_job_seconds_bucket{phase!="total"}[5m])))',
                    "{{phase}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Workers and unfinished jobs",
            "short",
            "How the number of workers follows the load.",
            "docs/scaling.md#why-the-autoscaler-behaves-as-it-does",
            (
                Query("max(pawqueue_workers)", "workers"),
                Query("max(pawqueue:jobs:unfinished)", "unfinished jobs"),
            ),
            width=12,
        ),
    ),
)

BOARDS = (OPERATOR, MODEL_OWNER, CAPACITY)


def as_json(board: Board) -> dict[str, Any]:
    """A board in the format of Grafana."""
    return {
        "uid": f"pawqueue-{board.name}",
        "title": board.title,
        "description": board.about,
        "tags": ["pawqueue"],
        "editable": False,
        "schemaVersion": 39,
        "version": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": list(_variables(board))},
        "panels": list(_panels(board.panels)),
    }


def _variables(board: Board) -> Iterator[dict[str, Any]]:
    yield {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    if board.has_models:
        query = "label_values(pawqueue_model_workers, model)"
        yield {
            "name": "model",
            "label": "Model",
            "type": "query",
            "datasource": _DATASOURCE,
            "definition": query,
            "query": {"query": query, "refId": "models"},
            "refresh": 2,  # when the time range changes
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "current": {"text": "All", "value": "$__all"},
        }


def _panels(panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    """The panels from left to right, in rows."""
    x = y = height = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > _WIDTH:
            x, y = 0, y + height
        height = _HEIGHT[panel.kind]
        yield _panel(number, panel, {"x": x, "y": y, "w": panel.width, "h": height})
        x += panel.width


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.alarm is not None:
        steps.append({"color": "red", "value": panel.alarm})
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        defaults |= {"min": 0} if panel.unit != "cps" else {}
        defaults["custom"] = {"fillOpacity": 10, "lineWidth": 2, "showPoints": "never"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": f"{panel.about}\n\nRunbook: {panel.runbook}",
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": _DATASOURCE, "expr": query.promql, "legendFormat": query.legend}
            for at, query in enumerate(panel.queries)
        ],
    }


_OPTIONS: dict[str, dict[str, Any]] = {
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area", "colorMode": "value"},
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
}


def board_files() -> dict[Path, str]:
    """The text of each file: one for each board, and the ConfigMaps, which the sidecar of the Grafana chart finds."""
    texts = {BOARDS_FOLDER / f"{board.name}.json": json.dumps(as_json(board), indent=1) + "\n" for board in BOARDS}
    maps = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"board-{path.stem}",
                "namespace": "pawqueue",
                "labels": {"grafana_dashboard": "1"},
                "annotations": {"grafana_folder": "Pawqueue"},
            },
            "data": {f"pawqueue-{path.name}": text},
        }
        for path, text in texts.items()
    ]
    head = "# Generated from deploy/monitoring/boards.py by `make docs`.\n"
    return texts | {CONFIG_MAPS: head + yaml.dump_all(maps, Dumper=_Dumper, sort_keys=False)}


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as it is, so that changes can be read."""

    def represent_str(self, text: str) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def main() -> None:
    """Write the files."""
    for path, text in board_files().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
