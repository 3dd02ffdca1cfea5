"""Runs, metrics and models in MLflow. This is the only file that imports MLflow.

MLflow takes seconds to import, so functions import it when they need it.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bundle.golden import golden_inputs
from bundle.manifest import MODEL_FILE, Manifest, read_manifest
from training.errors import TrainingError, run_command
from training.files import HISTORY_FILE, PARAMS_FILE, parse_paths

if TYPE_CHECKING:
    import mlflow

EXPERIMENT = "pawqueue"
CHAMPION = "champion"
_SQLITE = "sqlite:///"
_DEFAULT_URI = f"{_SQLITE}mlflow.db"
#: How SQLite and the operating system report a full disk.
_FULL = ("disk is full", "No space left on device")
#: Holds the version and server of the last recorded result, so that an unchanged run sends no request.
_RECORDED_FILE = "recorded.txt"


@dataclass(frozen=True)
class RegisteredModel:
    """One version of a model in the registry."""

    version: str
    bundle_version: str
    created_ms: int
    accuracy: float | None
    is_champion: bool
    run_id: str


def tracking_uri() -> str:
    """The MLflow server or file from PAWQUEUE_MLFLOW_TRACKING_URI or MLFLOW_TRACKING_URI, or a local file."""
    return os.environ.get("PAWQUEUE_MLFLOW_TRACKING_URI") or os.environ.get("MLFLOW_TRACKING_URI") or _DEFAULT_URI


def record_result_once(build: Path) -> str:
    """Record the result in the folder `build`, unless the last run recorded it on the same server; say where it is."""
    recorded = build / _RECORDED_FILE
    version = read_manifest(build / "bundle").version
    if recorded.is_file() and recorded.read_text(encoding="utf-8") == _recorded_line(version):
        return f"{version} is already recorded in {tracking_uri()}"
    return record_result(build)


def record_result(build: Path) -> str:
    """Record the result in the folder `build` as a run and a registered model, unless MLflow has it; say where it is.

    Raises:
        TrainingError: MLflow does not respond. The result is kept on disk.
    """
    manifest = read_manifest(build / "bundle")
    try:
        with _mlflow_errors("Cannot record the result"):
            client = _connect()
            if any(model.bundle_version == manifest.version for model in list_models(manifest.name)):
                text = f"{manifest.version} is already recorded in {tracking_uri()}"
            else:
                text = _record(client, build, manifest)
    except TrainingError as error:
        raise TrainingError(f"{error} The result is kept in {build}. Upload it with `make mlflow-upload`.") from error
    (build / _RECORDED_FILE).write_text(_recorded_line(manifest.version), encoding="utf-8")
    return text


def list_models(name: str) -> list[RegisteredModel]:
    """Return all registered versions of a model, newest first; none if the model is unknown.

    Raises:
        TrainingError: MLflow does not respond.
    """
    with _mlflow_errors(f"Cannot list {name} in MLflow"):
        client = _connect()
        versions = client.search_model_versions(f"name = '{name}'")
        aliases = client.get_registered_model(name).aliases if versions else {}
    champion = aliases.get(CHAMPION)
    return [
        RegisteredModel(
            version=str(found.version),
            bundle_version=found.tags.get("bundle_version", ""),
            created_ms=found.creation_timestamp,
            accuracy=float(found.tags["accuracy"]) if "accuracy" in found.tags else None,
            is_champion=str(found.version) == str(champion),
            run_id=found.run_id,
        )
        for found in sorted(versions, key=lambda found: -int(found.version))
    ]


def download_bundle(model: RegisteredModel, folder: Path) -> Path:
    """Download the bundle of a registered version into `folder` and return its path.

    Raises:
        TrainingError: MLflow does not respond.
    """
    import mlflow  # noqa: PLC0415 (slow)

    with _mlflow_errors(f"Cannot download the bundle of version {model.version}"):
        path = mlflow.artifacts.download_artifacts(run_id=model.run_id, artifact_path="bundle", dst_path=str(folder))
    return Path(path)


def set_champion(name: str, version: str) -> None:
    """Set the alias `champion` to a version.

    Raises:
        TrainingError: MLflow does not respond.
    """
    with _mlflow_errors(f"Cannot set the alias {CHAMPION} in MLflow"):
        _connect().set_registered_model_alias(name, CHAMPION, version)


def _connect() -> "mlflow.MlflowClient":
    # MLflow reads these when it is imported.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    # With the default retries, an unreachable server would be reported only after minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    import mlflow  # noqa: PLC0415 (slow)

    uri = tracking_uri()
    with _no_partial_database(uri), _mlflow_errors(f"MLflow at {uri} (PAWQUEUE_MLFLOW_TRACKING_URI) does not respond"):
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient()
        client.search_experiments(max_results=1)
    return client


@contextmanager
def _no_partial_database(uri: str) -> Iterator[None]:
    """Delete a new SQLite file if an error occurs while MLflow creates its tables: MLflow could never open it again."""
    path = Path(uri.removeprefix(_SQLITE))
    is_new = uri.startswith(_SQLITE) and not (path.exists() and path.stat().st_size)
    try:
        yield
    except BaseException:
        if is_new:
            path.unlink(missing_ok=True)
        raise


@contextmanager
def _mlflow_errors(message: str) -> Iterator[None]:
    """Convert MLflow errors and connection errors to `TrainingError`."""
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        import requests  # noqa: PLC0415 (MLflow imported it)
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 (slow)
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 (MLflow imported it)

        if not isinstance(error, MlflowException | requests.RequestException | SQLAlchemyError | OSError):
            raise
        if any(text in str(error) for text in _FULL):
            raise TrainingError(
                f"Disk is full: MLflow cannot write to {tracking_uri()} or to the temporary folder. Free some space."
            ) from error
        raise TrainingError(f"{message}: {_first_line(error).rstrip('.')}.") from error


def _record(client: "mlflow.MlflowClient", build: Path, manifest: Manifest) -> str:
    import mlflow  # noqa: PLC0415 (slow)

    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=manifest.version) as run:
        mlflow.log_params(_flat_params(PARAMS_FILE))
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
    return f"version {version} of {manifest.name} in {tracking_uri()}"


def _log_model(bundle: Path, manifest: Manifest) -> str:
    import keras  # noqa: PLC0415 (listing models needs no backend)
    import mlflow  # noqa: PLC0415 (slow)
    from mlflow.models import infer_signature  # noqa: PLC0415 (slow)

    network = keras.saving.load_model(bundle / MODEL_FILE, compile=False)
    example = golden_inputs(manifest.input.height, manifest.input.width)[:2]
    logged = mlflow.tensorflow.log_model(
        network,
        name="model",
        signature=infer_signature(example, network.predict(example, verbose=0)),
        input_example=example,
        # Otherwise MLflow infers them, which takes 15 seconds.
        pip_requirements=[f"{name}=={version}" for name, version in manifest.libraries.items() if name != "python"],
        registered_model_name=manifest.name,
    )
    return str(logged.registered_model_version)


def _flat_params(path: Path) -> dict[str, object]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {f"{section}.{key}": value for section, values in content.items() for key, value in values.items()}


def _epoch_metrics(history: Path) -> list[Any]:
    from mlflow.entities import Metric  # noqa: PLC0415 (slow)

    rows = json.loads(history.read_text(encoding="utf-8"))["epochs"]
    now_ms = int(time.time() * 1000)
    return [
        Metric(name, float(value), now_ms, int(row["epoch"]))
        for row in rows
        for name, value in row.items()
        if name != "epoch"
    ]


def _recorded_line(version: str) -> str:
    return f"{version} {tracking_uri()}\n"


def _first_line(error: Exception) -> str:
    """First line of an error, without the address that HTTP errors repeat."""
    return re.split(r" with exception| \(Caused by", (str(error).splitlines() or [type(error).__name__])[0])[0]


def main() -> None:
    """Record the last result."""
    paths = parse_paths("training.release.tracking", "Record the last training result in MLflow.", build=Path("build"))
    print(f"Recorded: {record_result(paths.build)}.")


if __name__ == "__main__":
    run_command(main)
