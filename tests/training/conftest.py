"""Prepared images and a small network, shared by the tests that train."""

from functools import partial
from pathlib import Path

import pytest

from tests.training.synthetic import tiny_params, write_folders
from training.networks.architectures import ARCHITECTURES, compact
from training.stages.prepare import prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 120 prepared images of two classes: 40 px for training, 32 px for validation and test."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare([write_folders(folder / "images", 60)], tiny_params(), folder / "prepared")
    return folder / "prepared"


@pytest.fixture
def short_compact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce `compact` from eight blocks to three, which takes a third of the time to build."""
    monkeypatch.setitem(ARCHITECTURES, "compact", partial(compact, stages=((16, 1), (32, 2))))
