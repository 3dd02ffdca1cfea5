"""A model is promoted if it is significantly better, or by force with a recorded reason."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from scipy.stats import binom

from bundle.locate import champion_folder
from bundle.manifest import MODEL_FILE, BundleError
from pawqueue.cli.models import models
from tests.training.synthetic import write_fake_bundle
from training.errors import TrainingError
from training.files import PREDICTIONS_FILE
from training.quality.comparison import Comparison, mcnemar
from training.release.promotion import RECORD_FILE, current_champion, promote

IMAGES = 400


def write_bundle(folder: Path, right: int, confidence: float | None = None, first: int = 0) -> Path:
    """Write a bundle whose first `right` of 400 predictions are correct."""
    top = right / IMAGES if confidence is None else confidence
    rows = []
    for index in range(IMAGES):
        truth = index % 2
        dog = top if (truth == 1) == (index < right) else 1 - top
        rows.append(f"image{first + index},{('cat', 'dog')[truth]},{1 - dog},{dog}")
    return write_fake_bundle(folder, rows)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder in which a bundle with 75 % accuracy was promoted as the first champion."""
    state_dir = tmp_path / "state"
    assert promote(write_bundle(tmp_path / "one", 300), None, state_dir, check=passes) is None
    return state_dir


def passes(_folder: Path) -> None:
    pass


def fails(_folder: Path) -> None:
    raise TrainingError("different outputs")


def challenge(challenger: Path, state: Path, reason: str | None = None) -> Comparison | None:
    return promote(challenger, current_champion(state), state, force_reason=reason, check=passes)


def record(state: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((champion_folder(state) / RECORD_FILE).read_text())
    return content


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 5), (10, 2), (1, 9)])
def test_mcnemar_is_the_two_sided_binomial_test(first: int, second: int) -> None:
    expected = min(1.0, 2 * binom.cdf(min(first, second), first + second, 0.5))
    assert mcnemar(first, second) == pytest.approx(expected if first + second else 1.0)


def test_the_first_champion_needs_no_comparison(state: Path) -> None:
    assert current_champion(state) == champion_folder(state)
    assert (record(state)["version"], record(state)["replaced"]) == ("one", None)


def test_a_significantly_better_model_is_promoted_and_recorded(tmp_path: Path, state: Path) -> None:
    comparison = challenge(write_bundle(tmp_path / "two", 340), state)
    assert comparison is not None
    assert comparison.is_better
    assert (champion_folder(state) / MODEL_FILE).read_bytes() == b"two"
    assert (record(state)["version"], record(state)["replaced"], record(state)["forced_because"]) == (
        "two", "one", None
    )  # fmt: skip


@pytest.mark.parametrize(
    ("right", "confidence", "message"),
    [(303, None, "McNemar"), (300, None, "McNemar"), (250, None, "McNemar"), (340, 0.55, "calibration")],
)
def test_a_model_without_significant_improvement_is_promoted_only_with_a_reason(
    tmp_path: Path, state: Path, right: int, confidence: float | None, message: str
) -> None:
    challenger = write_bundle(tmp_path / "two", right, confidence)
    with pytest.raises(TrainingError, match=message):
        challenge(challenger, state)
    assert (champion_folder(state) / MODEL_FILE).read_bytes() == b"one"
    challenge(challenger, state, "a demonstration")
    assert record(state)["forced_because"] == "a demonstration"


def test_models_without_shared_test_images_cannot_be_compared(tmp_path: Path, state: Path) -> None:
    with pytest.raises(TrainingError, match="share no test images"):
        challenge(write_bundle(tmp_path / "two", 390, first=IMAGES), state)


def test_a_damaged_champion_can_be_replaced_with_a_reason(tmp_path: Path, state: Path) -> None:
    (champion_folder(state) / MODEL_FILE).write_bytes(b"damaged")
    challenger = write_bundle(tmp_path / "two", 390)
    with pytest.raises(BundleError, match="differs from its checksum"):
        challenge(challenger, state)
    assert challenge(challenger, state, "the champion is damaged") is None
    assert record(state)["replaced"] == "damaged"


def test_a_reason_does_not_override_the_parity_check(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="different outputs"):
        promote(write_bundle(tmp_path / "one", 300), None, tmp_path, force_reason="in a hurry", check=fails)
    assert not champion_folder(tmp_path).exists()


def test_a_modified_bundle_is_not_promoted(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "one", 300)
    (folder / PREDICTIONS_FILE).write_text("sha256,label,cat,dog\n")
    with pytest.raises(BundleError, match="differs from its checksum"):
        promote(folder, None, tmp_path / "state", check=passes)


def test_the_command_compares_two_folders(tmp_path: Path) -> None:
    one, two = write_bundle(tmp_path / "one", 300), write_bundle(tmp_path / "two", 340)
    values = json.loads(CliRunner().invoke(models, ["compare", str(two), str(one), "--json"]).output)
    assert {"pictures", "p_value", "calibration_change", "is_better", "calibration_is_worse"} <= values.keys()
    text = CliRunner().invoke(models, ["compare", str(two), str(one)])
    assert text.exit_code == 0
    assert "better: yes" in text.output


def test_the_command_compares_with_the_predictions_of_a_replaced_bundle(tmp_path: Path) -> None:
    one, two = write_bundle(tmp_path / "one", 300), write_bundle(tmp_path / "two", 340)
    (one / PREDICTIONS_FILE).rename(tmp_path / "one.csv")
    result = CliRunner().invoke(models, ["compare", str(two), str(tmp_path / "one.csv"), "--json"])
    assert json.loads(result.output)["champion_accuracy"] == 0.75
    result = CliRunner().invoke(models, ["compare", str(two), str(tmp_path / "two" / MODEL_FILE)])
    assert result.output.startswith("Error: ")


def test_force_without_a_reason_is_rejected(tmp_path: Path) -> None:
    result = CliRunner().invoke(models, ["promote", "x", "--force", " "])
    assert result.exit_code == 1
    assert "needs a reason" in result.output


def test_the_command_reports_a_damaged_bundle_in_one_line(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "one", 300)
    (folder / MODEL_FILE).write_bytes(b"damaged")
    result = CliRunner().invoke(models, ["compare", str(folder), str(folder)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
