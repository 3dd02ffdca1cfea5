"""Prepared images and a small network, shared by the tests that train."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import pytest

from tests.training.synthetic import tiny_params, write_folders
from training.networks.architectures import ARCHITECTURES, compact
from training.params import Params
from training.stages.prepare import prepare
from training.stages.train import train


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


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that runs `train` and interrupts it in the given epoch, counted from 1."""

    def run(epoch: int, prepared: Path, params: Params, state: Path, out: Path) -> None:
        fit = keras.Model.fit

        def interrupted_fit(self: keras.Model, *args: Any, **kwargs: Any) -> Any:
            if kwargs["epochs"] == epoch:
                raise KeyboardInterrupt
            return fit(self, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(keras.Model, "fit", interrupted_fit)
            with pytest.raises(KeyboardInterrupt):
                train(prepared, params, state, out)

    return run
