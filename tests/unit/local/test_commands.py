"""`up` and `demo`: their checks, ports and folders, before any service starts."""

from pathlib import Path

import pytest

from contract.settings import load_settings
from deploy.local import commands
from deploy.local.__main__ import main
from deploy.local.commands import demo, demo_environ
from deploy.local.errors import UsageError
from deploy.local.services import gateway_url


def test_a_demo_uses_free_ports_and_its_own_folder(tmp_path: Path) -> None:
    settings = load_settings(demo_environ({}, tmp_path))

    used = {settings.gateway_port, settings.dashboard_port}
    used |= {settings.gateway_metrics_port, settings.worker_metrics_port}
    assert len(used) == 4
    assert not used & {8000, 8050, 9100, 9101}
    assert settings.state_dir == tmp_path


def test_a_demo_uses_the_ports_and_the_folder_set_in_the_environment(tmp_path: Path) -> None:
    chosen = demo_environ({"PAWQUEUE_GATEWAY_PORT": "8123", "PAWQUEUE_STATE_DIR": "/kept"}, tmp_path)

    assert chosen["PAWQUEUE_GATEWAY_PORT"] == "8123"
    assert chosen["PAWQUEUE_STATE_DIR"] == "/kept"


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    assert demo_environ({"PAWQUEUE_STATE_DIR": ""}, tmp_path)["PAWQUEUE_STATE_DIR"] == str(tmp_path)


def test_the_metrics_ports_of_many_workers_do_not_overlap_other_ports(tmp_path: Path) -> None:
    settings = load_settings(demo_environ({"PAWQUEUE_WORKERS": "4"}, tmp_path))

    metrics = {settings.worker_metrics_port + index for index in range(4)}
    assert not metrics & {settings.gateway_port, settings.gateway_metrics_port, settings.dashboard_port}


@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_or_empty_folder_of_images_is_rejected(tmp_path: Path, exists: bool) -> None:
    photos, state = tmp_path / "photos", tmp_path / "state"
    if exists:
        photos.mkdir()

    with pytest.raises(UsageError, match="PHOTOS=folder"):
        demo({"PAWQUEUE_STATE_DIR": str(state)}, photos, tmp_path / "results.csv")
    assert not state.exists()


def test_an_unwritable_results_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"x")

    with pytest.raises(UsageError, match=r"OUT=file\.csv"):
        demo({"PAWQUEUE_STATE_DIR": str(tmp_path / "state")}, tmp_path, tmp_path / "nowhere" / "results.csv")
    assert not (tmp_path / "state").exists()


def test_an_invalid_setting_exits_with_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAWQUEUE_GATEWAY_PORT", "eighty")

    assert main(["up"]) == 2
    assert "PAWQUEUE_GATEWAY_PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8000"), ("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000")],
)
def test_the_gateway_url_is_reachable_from_this_machine(host: str, url: str) -> None:
    assert gateway_url(load_settings({"PAWQUEUE_GATEWAY_HOST": host})) == url


def test_up_warns_about_an_unknown_variable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    environ = {"PAWQUEUE_WORKER": "2", "PAWQUEUE_STATE_DIR": str(tmp_path / "file")}

    with pytest.raises(UsageError, match="Set PAWQUEUE_STATE_DIR"):
        commands.up(environ)
    assert "PAWQUEUE_WORKER (did you mean PAWQUEUE_WORKERS?)" in capsys.readouterr().err
