"""How many cores a worker's model is given, and what is said of a number that cannot be meant."""

import pytest

from contract.settings import load_settings
from worker import __main__ as worker


@pytest.mark.parametrize(
    ("usable", "environ", "cores", "said"),
    [
        (4, {}, 4, ""),
        (4, {"PAWQUEUE_WORKER_CORES": "2"}, 2, ""),
        (4, {"PAWQUEUE_WORKER_CORES": "400"}, 4, "more than this process may use"),
        (64, {}, 64, "set PAWQUEUE_BATCH_SIZE higher"),
        (64, {"PAWQUEUE_BATCH_SIZE": "64"}, 64, ""),
    ],
)
def test_no_more_than_there_are(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    usable: int,
    environ: dict[str, str],
    cores: int,
    said: str,
) -> None:
    monkeypatch.setattr(worker, "usable_cores", lambda: usable)
    assert worker._cores_of(load_settings(environ)) == cores
    assert said in caplog.text if said else not caplog.text
