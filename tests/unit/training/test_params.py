"""`params.yaml` is validated before anything runs, and errors name the parameter."""

from pathlib import Path

import pytest

from tests.training.synthetic import ROOT
from training.errors import TrainingError
from training.params import read_params

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")


def test_the_shipped_parameters_are_valid() -> None:
    assert read_params(ROOT / "params.yaml").train.architecture == "transfer"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size: 32", "batch_size: many", r"train\.batch_size"),
        ("batch_size: 32", "batch_size: 0", r"train\.batch_size"),
        ("batch_size: 32", "batch_sise: 32", r"train\.batch_sise"),
        ("flip: true", "flip: 3", r"augment\.flip"),
        ("area: [0.5, 1.1]", "area: [-0.4, 1.1]", r"augment\.area"),
        ("architecture: transfer\n", "architecture: compact\n", r"train: .*epochs: at least 1"),
        ("input:", "input: [", "is not YAML"),
        ("  width: ", "  breadth: ", r"input\.width"),
    ],
)
def test_the_error_names_an_invalid_parameter(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SHIPPED
    path = tmp_path / "params.yaml"
    path.write_text(SHIPPED.replace("epochs: 5", "epochs: 0").replace(old, new), encoding="utf-8")
    with pytest.raises(TrainingError, match=message):
        read_params(path)


def test_the_error_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"absent\.yaml"):
        read_params(tmp_path / "absent.yaml")
