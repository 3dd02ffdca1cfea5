"""Problems with the data, parameters, disk or server are reported in one line and leave no partial output."""

import io
import json
import re
import sys
import tarfile
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.training.synthetic import striped_jpeg, tiny_params, write_folders, write_tar
from training import run
from training.data.sources import SOURCES_FILE, list_sources
from training.errors import ERROR_FILE_VARIABLE, run_command
from training.networks.architectures import NetworkSpec
from training.release import tracking
from training.release.untrained import export_untrained
from training.stages import prepare, train


def failure_of(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *args: str | Path, status: int = 1) -> str:
    """Run a failing command in this process and return its error message."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, args)])
    with redirect_stderr(io.StringIO()) as printed, pytest.raises(SystemExit) as exit_info:
        run_command(main)
    assert exit_info.value.code == status
    message = printed.getvalue().splitlines()[-1]
    assert message.startswith("Error: ")
    return message


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project whose parameters make a run take only seconds."""
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path)
    return tmp_path


def write_params(folder: Path, **train: object) -> None:
    values = yaml.safe_load(tiny_params(**train).model_dump_json())
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def one_class(folder: Path) -> Path:
    return write_folders(folder / "one", 30, ("lying",))


def too_few(folder: Path) -> Path:
    return write_folders(folder / "few", 9)


def empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def unreadable(folder: Path) -> Path:
    (folder / "unreadable.tar").write_bytes(b"not an archive" * 100)
    return folder / "unreadable.tar"


def outside(folder: Path) -> Path:
    return write_tar(folder / "outside.tar", {"../../lying/1.jpg": striped_jpeg(0, 1)})


def bomb(folder: Path) -> Path:
    """A small archive that unpacks to one large file."""
    with tarfile.open(folder / "bomb.tar.gz", "w:gz", compresslevel=1) as archive:
        info = tarfile.TarInfo("lying/1.jpg")
        info.size = 300_000_000
        archive.addfile(info, SimpleNamespace(read=bytes))  # type: ignore[arg-type]
    return folder / "bomb.tar.gz"


def all_broken(folder: Path) -> Path:
    return write_tar(folder / "broken.tar", {f"{name}/1.jpg": b"not an image" for name in ("lying", "standing")})


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (empty, r"empty contains no labeled images"),
        (one_class, r"only the class 'lying'"),
        (too_few, r"class 'lying' has 9 usable images\. Each class needs at least 10"),
        (unreadable, r"unreadable\.tar is not a readable folder, tar or zip"),
        (outside, r"outside\.tar is rejected: .* outside the archive's folder"),
        (bomb, r"bomb\.tar\.gz is rejected: 'lying/1\.jpg' is larger than 256 MiB"),
        (all_broken, r"no usable images"),
    ],
)
def test_unusable_data_is_reported(
    here: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path], expected: str
) -> None:
    (here / "source").mkdir()
    list_sources([str(make(here / "source"))], SOURCES_FILE)
    message = failure_of(monkeypatch, prepare.main)
    assert re.search(expected, message), message
    assert not list((here / "build").iterdir())


def test_a_corrupt_image_is_dropped_and_listed(here: Path) -> None:
    images = write_folders(here / "images", 40)
    (images / "lying" / "cut.jpg").write_bytes(striped_jpeg(0, 99)[:300])
    prepare.prepare([images], tiny_params(), here / "prepared")
    report = json.loads((here / "prepared" / "report.json").read_text(encoding="utf-8"))
    assert report["kept"] == 80
    assert "broken" in report["dropped"]["images/lying/cut.jpg"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], "Set DATA to a folder"), (["nowhere.tar"], "DATA: nothing matches 'nowhere.tar'")],
)
def test_missing_data_is_reported(
    here: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    assert expected in failure_of(monkeypatch, run.main, *arguments)


def test_an_invalid_parameter_is_reported_before_any_data_is_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = (here / "params.yaml").read_text(encoding="utf-8")
    (here / "params.yaml").write_text(values.replace("batch_size: 16", "batch_size: many"), encoding="utf-8")
    assert re.search(r"params\.yaml: train\.batch_size", failure_of(monkeypatch, run.main, "nowhere.tar"))


def test_missing_pretrained_weights_are_reported_before_any_data_is_read(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(here, architecture="transfer", backbone_weights="nowhere.pth")
    message = failure_of(monkeypatch, run.main, "nowhere.tar", status=2)
    assert message == "Error: train.backbone_weights: cannot read nowhere.pth (No such file or directory)."


def test_a_missing_teacher_is_reported_before_any_data_is_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_params(here, teacher="nowhere")
    message = failure_of(monkeypatch, run.main, "nowhere.tar")
    assert message == (
        "Error: train.teacher: there is no bundle at nowhere. Set it to the folder of a bundle, or to ''."
    )


def test_an_unknown_architecture_is_reported(prepared: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_params(here, architecture="huge")
    message = failure_of(monkeypatch, train.main, "--prepared", prepared)
    assert "train.architecture: unknown architecture 'huge'" in message
    assert not (here / "build").exists()


def test_a_failed_stage_writes_its_message_to_the_error_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ERROR_FILE_VARIABLE, str(here / "error"))
    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as exit_info:
        run_command(prepare.main)
    assert exit_info.value.code == 1
    assert "make train DATA=path" in (here / "error").read_text(encoding="utf-8")


def test_an_unreachable_mlflow_server_is_reported_and_the_result_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_untrained(NetworkSpec("baseline_cnn", 32, 32), tmp_path / "bundle", labels=["cat", "dog"], seed=1)
    for address in ("http://127.0.0.1:9", "http://nowhere.invalid:5000", "nothing://here"):
        monkeypatch.setenv("PAWQUEUE_MLFLOW_TRACKING_URI", address)
        message = failure_of(monkeypatch, tracking.main, "--build", tmp_path)
        assert f"MLflow at {address} (PAWQUEUE_MLFLOW_TRACKING_URI) does not respond" in message
        assert "make mlflow-upload" in message
    assert (tmp_path / "bundle" / "model.keras").is_file()
