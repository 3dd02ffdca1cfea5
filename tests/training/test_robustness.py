"""Bundles of different input sizes are compared on the degraded test images that they share."""

import hashlib
import sys
from pathlib import Path

import pytest

from tests.training.synthetic import ROOT, striped_jpeg, tiny_params, write_tar
from training.errors import TrainingError
from training.files import PREDICTIONS_FILE
from training.networks.architectures import NetworkSpec, build_network
from training.quality import robustness
from training.quality.robustness import DEGRADATIONS, compare_robustness
from training.release.bundling import BundleFacts, write_bundle

LABELS = ["lying", "standing"]
IMAGES = {f"{LABELS[label]}/{seed}.jpg": striped_jpeg(label, seed) for label in (0, 1) for seed in range(6)}


def bundle_tested_on(folder: Path, side: int, names: list[str], answer: float) -> str:
    """Write a bundle that returns `answer` for the second label, and the version."""
    network = build_network(NetworkSpec("baseline_cnn", side, side))
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([0 * kernel, 0 * bias + answer])
    rows = [f"{hashlib.sha256(IMAGES[name]).hexdigest()},{name.split('/')[0]},0.5,0.5" for name in names]
    predictions = "\n".join(["sha256,label,lying,standing", *rows]) + "\n"
    facts = BundleFacts(name="stripes", labels=LABELS, files={PREDICTIONS_FILE: predictions})
    return write_bundle(network, facts, folder).version


def test_bundles_are_measured_on_the_test_images_that_they_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lying, standing = list(IMAGES)[:6], list(IMAGES)[6:]
    first = bundle_tested_on(tmp_path / "first", 32, lying[:4] + standing[:3], -5.0)
    second = bundle_tested_on(tmp_path / "second", 48, lying[3:] + standing, 5.0)
    data = write_tar(tmp_path / "stripes.tar", IMAGES)
    found = compare_robustness([tmp_path / "first", tmp_path / "second"], [data], tiny_params().prepare)
    assert found == {first: dict.fromkeys(DEGRADATIONS, 0.25), second: dict.fromkeys(DEGRADATIONS, 0.75)}
    command = ["robustness", tmp_path / "first", tmp_path / "second", "--data", data, "--params", ROOT / "params.yaml"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    robustness.main()
    assert "| blurred | 25.0 % | 75.0 % |" in capsys.readouterr().out


def test_missing_test_images_are_reported(tmp_path: Path) -> None:
    bundle_tested_on(tmp_path / "bundle", 32, list(IMAGES), 0.0)
    some = write_tar(tmp_path / "some.tar", dict(list(IMAGES.items())[:5]))
    with pytest.raises(TrainingError, match="DATA contains 5 of the 12 test images"):
        compare_robustness([tmp_path / "bundle"], [some], tiny_params().prepare)
