"""Prepared images and a short network, shared by the tests that train."""

from pathlib import Path

import pytest

from tests.training.drawn import tiny_params, write_folders
from training import network
from training.prepare import prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of 120 prepared images of two classes, 40 px for training and 32 px held out."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare([write_folders(folder / "images", 60)], tiny_params(), folder / "prepared")
    return folder / "prepared"


@pytest.fixture
def short_compact(monkeypatch: pytest.MonkeyPatch) -> None:
    """`compact` of three blocks instead of eight, which is built in a third of the time."""
    monkeypatch.setattr(network, "_COMPACT_STAGES", ((16, 1), (32, 2)))
