"""How many CPU cores the model uses."""

import pytest

from contract.settings import load_settings
from worker.__main__ import model_cores


@pytest.mark.parametrize(
    ("usable", "environ", "cores", "logged"),
    [
        (4, {}, 4, ""),
        (4, {"PAWQUEUE_WORKER_CORES": "2"}, 2, ""),
        (4, {"PAWQUEUE_WORKER_CORES": "400"}, 4, "higher than the number of usable cores"),
        (64, {}, 64, "raise PAWQUEUE_BATCH_SIZE"),
        (64, {"PAWQUEUE_BATCH_SIZE": "64"}, 64, ""),
    ],
)
def test_the_model_uses_at_most_the_usable_cores(
    caplog: pytest.LogCaptureFixture, usable: int, environ: dict[str, str], cores: int, logged: str
) -> None:
    assert model_cores(load_settings(environ), usable) == cores
    assert logged in caplog.text if logged else not caplog.text
