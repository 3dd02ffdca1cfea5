"""What was tried, kept in MLflow: runs, their figures and plots, and the registry of models."""

import argparse
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

# Before the import: it decides then.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# An unreachable server is told in seconds, not after minutes of retries.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")

import mlflow
import requests
import yaml
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from bundle.golden import golden_inputs
from bundle.manifest import MODEL_FILE, Manifest, read_manifest
from training.artifacts import HISTORY_FILE
from training.errors import TrainingError, run_command
from training.recorded import note_recorded, tracking_uri

EXPERIMENT = "pawqueue"
CHAMPION = "champion"
_UNREACHABLE = (MlflowException, requests.RequestException, OSError)


@dataclass(frozen=True)
class RegisteredModel:
    """One version of a model in the registry."""

    version: str
    bundle_version: str
    created_ms: int
    accuracy: float | None
    is_champion: bool
    run_id: str


def connect() -> mlflow.MlflowClient:
    """Connect to the server or file that PAWQUEUE_MLFLOW_TRACKING_URI (or MLFLOW_TRACKING_URI) names.

    Raises:
        TrainingError: it does not answer.
    """
    uri = tracking_uri()
    try:
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient()
        client.search_experiments(max_results=1)
    except _UNREACHABLE as error:
        raise TrainingError(
            f"MLflow at {uri} (PAWQUEUE_MLFLOW_TRACKING_URI) does not answer: {_short(error)}."
        ) from error
    return client


def record_result(build: Path) -> None:
    """Record what lies in the folder `build` as a run and a registered model, unless that was done before.

    Raises:
        TrainingError: MLflow does not answer; the result stays on disk.
    """
    manifest = read_manifest(build / "bundle")
    try:
        client = connect()
        if any(model.bundle_version == manifest.version for model in list_models(manifest.name)):
            print(f"{manifest.name} {manifest.version} is recorded already.")
        else:
            _record(client, build, manifest)
    except (TrainingError, *_UNREACHABLE) as error:
        raise TrainingError(
            f"{_short(error).rstrip('.')}. The result is kept in {build}; send it with `make mlflow-upload`."
        ) from error
    note_recorded(build, manifest.version)


def list_models(name: str) -> list[RegisteredModel]:
    """All versions of a model in the registry, newest first; none if it is unknown."""
    client = connect()
    try:
        found = client.search_model_versions(f"name = '{name}'")
        aliases = client.get_registered_model(name).aliases if found else {}
    except _UNREACHABLE as error:
        raise TrainingError(f"MLflow cannot list {name}: {_short(error)}.") from error
    champion = aliases.get(CHAMPION)
    return [
        RegisteredModel(
            str(v.version),
            v.tags.get("bundle_version", ""),
            v.creation_timestamp,
            float(v.tags["accuracy"]) if "accuracy" in v.tags else None,
            str(v.version) == str(champion),
            v.run_id,
        )
        for v in sorted(found, key=lambda v: -int(v.version))
    ]


def download_bundle(model: RegisteredModel, folder: Path) -> Path:
    """Fetch the bundle of a registered version into `folder` and return where it lies."""
    try:
        fetched = mlflow.artifacts.download_artifacts(run_id=model.run_id, artifact_path="bundle", dst_path=str(folder))
    except _UNREACHABLE as error:
        raise TrainingError(f"The bundle of version {model.version} cannot be fetched: {_short(error)}.") from error
    return Path(fetched)


def set_champion(name: str, version: str) -> None:
    """Let the alias `champion` point at a version."""
    try:
        connect().set_registered_model_alias(name, CHAMPION, version)
    except _UNREACHABLE as error:
        raise TrainingError(f"MLflow cannot set the alias {CHAMPION}: {_short(error)}.") from error


def _record(client: mlflow.MlflowClient, build: Path, manifest: Manifest) -> None:
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=manifest.version) as run:
        mlflow.log_params(_flat_params(Path("params.yaml")))
        mlflow.set_tags(
            {
                "bundle_version": manifest.version,
                "git_revision": manifest.git_revision or "",
                **{f"data.{key}": value for key, value in manifest.data.items()},
                **{f"library.{key}": value for key, value in manifest.libraries.items()},
            }
        )
        client.log_batch(run.info.run_id, metrics=_epoch_metrics(build / "trained" / HISTORY_FILE))
        mlflow.log_metrics({f"test_{name}": value.value for name, value in manifest.metrics.items()})
        mlflow.log_artifacts(str(build / "evaluated"), "evaluated")
        mlflow.log_artifacts(str(build / "bundle"), "bundle")
        version = _log_model(build / "bundle", manifest)
        client.set_model_version_tag(manifest.name, version, "bundle_version", manifest.version)
        if accuracy := manifest.metrics.get("accuracy"):
            client.set_model_version_tag(manifest.name, version, "accuracy", str(accuracy.value))
    print(f"Recorded as version {version} of {manifest.name} in {mlflow.get_tracking_uri()}.")


def _log_model(bundle: Path, manifest: Manifest) -> str:
    import keras  # noqa: PLC0415 (listing models needs no backend)

    network = keras.saving.load_model(bundle / MODEL_FILE, compile=False)
    example = golden_inputs(manifest.input.height, manifest.input.width)[:2]
    logged = mlflow.tensorflow.log_model(
        network,
        name="model",
        signature=infer_signature(example, network.predict(example, verbose=0)),
        input_example=example,
        # Given here, since finding them out takes MLflow a quarter of a minute.
        pip_requirements=[f"{name}=={version}" for name, version in manifest.libraries.items() if name != "python"],
        registered_model_name=manifest.name,
    )
    return str(logged.registered_model_version)


def _flat_params(path: Path) -> dict[str, object]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {f"{section}.{key}": value for section, knobs in content.items() for key, value in knobs.items()}


def _epoch_metrics(history: Path) -> list[Metric]:
    rows = json.loads(history.read_text(encoding="utf-8"))["epochs"]
    now_ms = int(time.time() * 1000)
    return [
        Metric(name, float(value), now_ms, int(row["epoch"]))
        for row in rows
        for name, value in row.items()
        if name != "epoch"
    ]


def _short(error: Exception) -> str:
    """First line of an error, which for HTTP ends before the address is repeated."""
    return re.split(r" with exception| \(Caused by", (str(error).splitlines() or [type(error).__name__])[0])[0]


def main() -> None:
    """Read the command line and send what training left on disk."""
    parser = argparse.ArgumentParser(
        prog="python -m training.tracking",
        description="Record the last result in MLflow.",
        epilog="example: python -m training.tracking --build build",
    )
    parser.add_argument("--build", type=Path, default=Path("build"))
    record_result(parser.parse_args().build)


if __name__ == "__main__":
    run_command(main)
