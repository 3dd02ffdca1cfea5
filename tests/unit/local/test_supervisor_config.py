"""supervisord's configuration: order, patience and logs of the programs."""

import configparser
from pathlib import Path

import pytest

from deploy.local.errors import UsageError
from deploy.local.supervisor_config import Places, Program, supervisor_config

PROGRAMS = [
    Program("redis", ("/bin/redis-server", "--save", ""), stage=1, stop_s=15),
    Program("worker-0", ("python", "-m", "worker"), 2, 30.5, "workers", {"PAWQUEUE_WORKER_METRICS_PORT": "9101"}),
    Program("worker-1", ("python", "-m", "worker"), 2, 30.5, "workers", {"PAWQUEUE_WORKER_METRICS_PORT": "9102"}),
    Program("gateway", ("python", "-m", "gateway"), stage=3, stop_s=35),
]


def _places(state: str = "/state") -> Places:
    return Places(Path("/project"), Path(state, "logs"), Path(state, "run"), Path("/tmp/p/socket"))


@pytest.fixture
def config() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(supervisor_config(PROGRAMS, _places()))
    return parser


def test_services_start_after_what_they_need(config: configparser.RawConfigParser) -> None:
    order = [config.getint(f"program:{name}", "priority") for name in ("redis", "worker-0", "gateway")]

    assert order == sorted(set(order))
    assert config.getint("group:workers", "priority") == config.getint("program:worker-0", "priority")


def test_a_worker_may_finish_what_it_holds(config: configparser.RawConfigParser) -> None:
    assert config.getint("program:worker-0", "stopwaitsecs") == 31


def test_workers_stop_side_by_side(config: configparser.RawConfigParser) -> None:
    assert config["group:workers"]["programs"] == "worker-0,worker-1"


def test_each_worker_has_a_metrics_port_of_its_own(config: configparser.RawConfigParser) -> None:
    assert config["program:worker-1"]["environment"] == 'PAWQUEUE_WORKER_METRICS_PORT="9102"'


def test_every_program_comes_back_and_logs_to_a_rotated_file(config: configparser.RawConfigParser) -> None:
    for program in PROGRAMS:
        section = config[f"program:{program.name}"]
        assert section["autorestart"] == "true"
        assert section["stdout_logfile"] == f"/state/logs/{program.name}.log"
        assert int(section["stdout_logfile_backups"]) > 0


def test_an_empty_word_of_a_command_stays(config: configparser.RawConfigParser) -> None:
    assert config["program:redis"]["command"] == "/bin/redis-server --save ''"


def test_a_percent_sign_in_a_folder_is_escaped() -> None:
    assert "logfile = /100%%/logs/supervisord.log" in supervisor_config(PROGRAMS, _places("/100%"))


@pytest.mark.parametrize("folder", ["/my #1", "/a ;b", "/a\nb"])
def test_a_folder_that_would_be_cut_short_is_refused(folder: str) -> None:
    with pytest.raises(UsageError, match="use a folder without"):
        supervisor_config(PROGRAMS, _places(folder))
