"""supervisord.conf as supervisord parses it: start order, time to stop, logs and commands."""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from supervisor.options import ServerOptions

from contract.settings import load_settings
from deploy.local.services import service_environ
from deploy.local.stack import CONFIG, ROOT

SETTINGS = {"PAWQUEUE_WORKERS": "2", "PAWQUEUE_DRAIN_S": "30.5"}


def programs(state: Path, **more: str) -> dict[str, Any]:
    """The programs by name."""
    environ = {**SETTINGS, **more, "PAWQUEUE_STATE_DIR": str(state)}
    values = {**service_environ(load_settings(environ), environ), "UP_ROOT": str(ROOT), "UP_SOCKET": "/tmp/p/s"}
    options = ServerOptions()
    options.environ_expansions = {f"ENV_{name}": value for name, value in values.items()}
    options.here = str(CONFIG.parent)
    section = options.read_config(str(CONFIG))
    return {program.name: program for group in section.process_group_configs for program in group.process_configs}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "logs").mkdir()
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_services_start_after_the_services_they_need(state: Path) -> None:
    found = programs(state)

    order = [found[name].priority for name in ("redis", "worker-0", "gateway", "dashboard")]
    assert order == sorted(set(order))
    assert found["worker-1"].priority == found["worker-0"].priority


def test_a_worker_has_time_to_finish_its_jobs_before_it_is_killed(state: Path) -> None:
    assert programs(state)["worker-0"].stopwaitsecs > 30.5


def test_every_program_restarts_and_has_a_rotated_log(state: Path) -> None:
    found = programs(state)

    assert set(found) == {"redis", "worker-0", "worker-1", "gateway", "notifier", "dashboard"}
    for name, program in found.items():
        assert program.autorestart
        assert program.killasgroup
        assert program.stdout_logfile == f"logs/{name}.log"  # in the state folder, where supervisord runs
        assert program.stdout_logfile_backups > 0


@pytest.mark.parametrize(("first", "second"), [("9101", "9102"), ("0", "0")])
def test_each_worker_gets_its_own_metrics_port(state: Path, first: str, second: str) -> None:
    python = state / "python3"
    python.write_text('#!/bin/sh\necho "$PAWQUEUE_WORKER_METRICS_PORT $*"\n')
    python.chmod(0o755)
    environ = {"PATH": f"{state}:{os.environ['PATH']}", "PAWQUEUE_WORKER_METRICS_PORT": first}

    commands = [shlex.split(programs(state)[f"worker-{index}"].command) for index in range(2)]
    printed = [
        subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout for command in commands
    ]
    assert printed == [f"{first} -m worker\n", f"{second} -m worker\n"]


def test_no_redis_is_started_if_a_redis_url_is_set(state: Path) -> None:
    assert programs(state)["redis"].autostart
    assert not programs(state, PAWQUEUE_REDIS_URL="redis://elsewhere")["redis"].autostart


@pytest.mark.parametrize("name", ["my #1", "a ;b", "100%", "two words"])
def test_the_path_of_the_state_folder_may_contain_special_characters(
    state: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = state / name
    (folder / "logs").mkdir(parents=True)
    (folder / "run").mkdir()
    monkeypatch.chdir(folder)

    found = programs(folder)
    assert str(folder / "redis") in found["redis"].command
