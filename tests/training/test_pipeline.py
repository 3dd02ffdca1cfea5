"""The whole pipeline on synthetic images: DVC, training, export, a real MLflow server, promotion."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import yaml
from click.testing import CliRunner, Result

import training.run
from bundle.manifest import read_manifest
from pawqueue.cli.models import models as command
from tests.support.mlflow import starting_mlflow, wait_for_mlflow
from tests.training.synthetic import ROOT, tiny_params, write_folders
from training.errors import TrainingError
from training.release.tracking import EXPERIMENT, record_result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an MLflow server, which starts while the first test trains."""
    with starting_mlflow(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the training code, like a fresh clone, with parameters that make a run take only seconds."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("training", "bundle"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    values = yaml.safe_load(tiny_params(architecture="baseline_cnn", learning_rate=0.001).model_dump_json())
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n", encoding="utf-8")
    return folder


def run(project: Path, module: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a module in the project."""
    environment = {**os.environ, "PYTHONPATH": str(project)}
    return subprocess.run(
        [sys.executable, "-m", module, *args], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def models(*args: str) -> Result:
    """Run `pawqueue models` in this process, where MLflow is imported once."""
    return CliRunner().invoke(command, [*args, "--name", "stripes"])


def check_recorded(uri: str, bundle_version: str) -> None:
    """Check that MLflow has the run's parameters, tags, metrics and files."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.params["train.architecture"] == "baseline_cnn"
    assert found.data.tags["bundle_version"] == bundle_version
    assert {"git_revision", "data.train_fingerprint", "library.keras", "library.python"} <= found.data.tags.keys()
    assert {"test_accuracy", "test_calibration_error", "loss", "val_loss", "val_accuracy"} <= found.data.metrics.keys()
    assert [point.step for point in client.get_metric_history(found.info.run_id, "val_loss")] == [1, 2, 3]
    kept = {Path(item.path).name for item in client.list_artifacts(found.info.run_id, "evaluated")}
    assert {"curves.png", "confusion.png", "calibration.png", "mistakes.png", "metrics.json"} <= kept
    model = mlflow.models.get_model_info("models:/stripes/1")
    assert model.signature.inputs.inputs[0].shape == (-1, 32, 32, 3)
    assert model.saved_input_example_info


@pytest.fixture(scope="module")
def trained(
    project: Path,
    mlflow_server: str,  # starts up while training runs
    tmp_path_factory: pytest.TempPathFactory,
) -> subprocess.CompletedProcess[str]:
    """Run training once in the project; returns the finished process."""
    images = write_folders(tmp_path_factory.mktemp("drawn") / "images", 60)
    (images / "lying" / "broken.jpg").write_bytes(b"not an image")
    done = run(project, "training.run", "--no-tracking", str(images))
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def tracked(project: Path, trained: object, mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Work in the project, and send results to the MLflow server; returns its URL."""
    wait_for_mlflow(mlflow_server)
    monkeypatch.chdir(project)
    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.setenv("PAWQUEUE_MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("PAWQUEUE_STATE_DIR", str(project / "state"))
    return mlflow_server


def test_one_command_turns_images_into_a_bundle(project: Path, trained: subprocess.CompletedProcess[str]) -> None:
    manifest = read_manifest(project / "build" / "bundle")
    assert manifest.labels == ["lying", "standing"]
    assert manifest.metrics["accuracy"].low is not None
    assert "float32: within" in (project / "build" / "train.log").read_text(encoding="utf-8")
    assert not trained.stderr
    rows = dict(line.split(maxsplit=1) for line in trained.stdout.splitlines())
    assert re.fullmatch(r"\d+\.\d % \(95 % interval \d+\.\d to \d+\.\d\) on the test images", rows["Accuracy"])
    assert "lying, standing" in rows["Classes"]
    assert rows["Size"].endswith(" MB")
    assert "ms of CPU for one image" in rows["Cost"]
    assert rows["Next"].startswith("PAWQUEUE_MODEL=build/bundle make ")
    assert run(project, "dvc", "status").stdout.strip() == "Data and pipelines are up to date."


def test_a_second_run_trains_nothing_and_records_the_result_once(
    project: Path, tracked: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["training.run"])
    training.run.main()  # in this process, where TensorFlow and MLflow are imported once
    assert "Running stage" not in (project / "build" / "train.log").read_text(encoding="utf-8")
    assert f"version 1 of stripes in {tracked}" in capfd.readouterr().out
    version = read_manifest(project / "build" / "bundle").version
    check_recorded(tracked, version)
    training.run.main()
    assert f"{version} is already recorded in {tracked}" in capfd.readouterr().out
    monkeypatch.setenv("PAWQUEUE_MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrainingError, match="make mlflow-upload"):  # the result is not on this server
        training.run.main()


@pytest.mark.usefixtures("tracked")
def test_a_registered_model_is_promoted_with_a_reason_or_if_it_is_better(project: Path) -> None:
    record_result(project / "build")
    version = read_manifest(project / "build" / "bundle").version
    rejected = models("promote", "1")
    assert rejected.exit_code == 1
    assert "different labels" in rejected.output  # its labels differ from the shipped model's
    promoted = models("promote", "1", "--force", "the first model with these labels")
    assert promoted.exit_code == 0, promoted.output
    assert read_manifest(project / "state" / "models" / "champion").version == version
    listed = models("list").output
    assert version in listed
    assert listed.splitlines()[-1].endswith("champion")
    rejected = models("promote", version)
    assert rejected.exit_code == 1
    assert "McNemar" in rejected.output


@pytest.mark.usefixtures("tracked")
def test_the_result_is_kept_if_the_server_is_unreachable(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAWQUEUE_MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrainingError, match="make mlflow-upload"):
        record_result(project / "build")
    assert read_manifest(project / "build" / "bundle")


@pytest.mark.usefixtures("trained")
def test_a_changed_parameter_reruns_only_the_stages_that_depend_on_it(project: Path) -> None:
    values = (project / "params.yaml").read_text(encoding="utf-8")
    (project / "params.yaml").write_text(values.replace("limit_mb: 20.0", "limit_mb: 19.0"), encoding="utf-8")
    status = run(project, "dvc", "status").stdout
    (project / "params.yaml").write_text(values, encoding="utf-8")
    assert [line for line in status.splitlines() if not line.startswith((" ", "\t"))] == ["export:"]
