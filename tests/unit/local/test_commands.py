"""`up` and `demo`: what is checked and chosen before anything is started."""

from pathlib import Path

import pytest

from contract.settings import load_settings
from deploy.local import commands
from deploy.local.__main__ import main
from deploy.local.commands import demo, demo_environ
from deploy.local.errors import UsageError
from deploy.local.urls import gateway_url


@pytest.fixture(autouse=True)
def _nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr(commands, "running_stack", start)


def test_a_demo_takes_ports_and_a_folder_of_its_own(tmp_path: Path) -> None:
    settings = load_settings(demo_environ({}, tmp_path))

    used = {settings.gateway_port, settings.redis_port, settings.dashboard_port, settings.worker_metrics_port}
    assert len(used) == 4
    assert not used & {8000, 6399, 8050, 9101}
    assert settings.state_dir == tmp_path


def test_a_demo_keeps_what_the_environment_names(tmp_path: Path) -> None:
    chosen = demo_environ({"PAWQUEUE_GATEWAY_PORT": "8123", "PAWQUEUE_STATE_DIR": "/kept"}, tmp_path)

    assert chosen["PAWQUEUE_GATEWAY_PORT"] == "8123"
    assert chosen["PAWQUEUE_STATE_DIR"] == "/kept"


def test_a_variable_that_is_set_to_nothing_counts_as_unset(tmp_path: Path) -> None:
    assert demo_environ({"PAWQUEUE_STATE_DIR": ""}, tmp_path)["PAWQUEUE_STATE_DIR"] == str(tmp_path)


def test_metrics_of_many_workers_do_not_meet_other_ports(tmp_path: Path) -> None:
    settings = load_settings(demo_environ({"PAWQUEUE_WORKERS": "4"}, tmp_path))

    metrics = {settings.worker_metrics_port + index for index in range(4)}
    assert not metrics & {settings.gateway_port, settings.redis_port, settings.dashboard_port}


@pytest.mark.parametrize("make", [False, True])
def test_no_photos_is_said_before_anything_starts(tmp_path: Path, make: bool) -> None:
    photos = tmp_path / "photos"
    if make:
        photos.mkdir()

    with pytest.raises(UsageError, match="PHOTOS=folder"):
        demo({}, photos, tmp_path / "results.csv")


def test_a_place_that_cannot_hold_results_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"x")

    with pytest.raises(UsageError, match="OUT="):
        demo({}, tmp_path, tmp_path / "nowhere" / "results.csv")


def test_a_setting_that_does_not_fit_ends_with_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAWQUEUE_GATEWAY_PORT", "eighty")

    assert main(["up"]) == 2
    assert "PAWQUEUE_GATEWAY_PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8000"), ("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000")],
)
def test_the_gateway_is_reached_on_this_machine(host: str, url: str) -> None:
    assert gateway_url(load_settings({"PAWQUEUE_GATEWAY_HOST": host})) == url


def test_a_variable_that_nobody_reads_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ports = demo_environ({}, tmp_path)
    with pytest.raises(AssertionError, match="something was started"):
        commands.up({**ports, "PAWQUEUE_WORKER": "2"})
    assert "PAWQUEUE_WORKER (meant PAWQUEUE_WORKERS?)" in capsys.readouterr().err
