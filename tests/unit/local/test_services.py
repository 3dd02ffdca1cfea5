"""What is started for which settings."""

from pathlib import Path

import pytest

from contract.settings import load_settings
from deploy.local import services
from deploy.local.errors import UsageError
from deploy.local.ports import pick_ports
from deploy.local.services import check_given_redis, ports_of, programs_of


@pytest.fixture(autouse=True)
def _no_dashboard_and_some_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "has_dashboard", lambda: False)
    monkeypatch.setattr(services, "find_redis_server", lambda: Path("/bin/redis-server"))


def test_redis_worker_and_gateway_in_this_order() -> None:
    assert [program.name for program in programs_of(load_settings({}))] == ["redis", "worker-0", "gateway"]


def test_redis_writes_to_the_disk_as_often_as_set() -> None:
    def policy(environ: dict[str, str]) -> str:
        command = programs_of(load_settings(environ))[0].command
        return command[command.index("--appendfsync") + 1]

    assert policy({}) == "always"
    assert policy({"PAWQUEUE_REDIS_APPENDFSYNC": "everysec"}) == "everysec"


def test_no_redis_of_ours_beside_one_given_by_its_address() -> None:
    settings = load_settings({"PAWQUEUE_REDIS_URL": "redis://elsewhere:6379/0"})

    assert "redis" not in [program.name for program in programs_of(settings)]
    assert "PAWQUEUE_REDIS_PORT" not in [port.variable for port in ports_of(settings)]


def test_a_redis_that_does_not_answer_is_named_by_its_setting_and_its_password_kept() -> None:
    settings = load_settings({"PAWQUEUE_REDIS_URL": f"redis://:secret@127.0.0.1:{pick_ports(1)}/0"})

    with pytest.raises(UsageError, match="The Redis of PAWQUEUE_REDIS_URL does not answer") as caught:
        check_given_redis(settings)
    assert "secret" not in str(caught.value)


def test_as_many_workers_as_set_each_with_its_port() -> None:
    settings = load_settings({"PAWQUEUE_WORKERS": "3", "PAWQUEUE_WORKER_METRICS_PORT": "9200"})

    workers = [program for program in programs_of(settings) if program.group == "workers"]
    assert [worker.environment["PAWQUEUE_WORKER_METRICS_PORT"] for worker in workers] == ["9200", "9201", "9202"]
    assert [port.number for port in ports_of(settings)][-3:] == [9200, 9201, 9202]


@pytest.mark.parametrize(
    ("workers", "chosen", "cores"), [(1, None, "8"), (3, None, "2"), (16, None, "1"), (3, "5", "5")]
)
def test_workers_share_the_cores_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, workers: int, chosen: str | None, cores: str
) -> None:
    monkeypatch.setattr("deploy.local.services.usable_cores", lambda: 8)
    environ = {"PAWQUEUE_WORKERS": str(workers)} | ({"PAWQUEUE_WORKER_CORES": chosen} if chosen else {})

    programs = [program for program in programs_of(load_settings(environ)) if program.group == "workers"]
    assert [program.environment["PAWQUEUE_WORKER_CORES"] for program in programs] == [cores] * workers


def test_without_metrics_no_port_is_needed() -> None:
    settings = load_settings({"PAWQUEUE_WORKERS": "2", "PAWQUEUE_WORKER_METRICS_PORT": "0"})

    assert [port.variable for port in ports_of(settings)] == ["PAWQUEUE_GATEWAY_PORT", "PAWQUEUE_REDIS_PORT"]


def test_a_dashboard_is_started_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "has_dashboard", lambda: True)
    settings = load_settings({})

    assert programs_of(settings)[-1].name == "dashboard"
    assert "PAWQUEUE_DASHBOARD_PORT" in [port.variable for port in ports_of(settings)]


def test_a_worker_gets_longer_to_stop_than_it_may_drain() -> None:
    settings = load_settings({"PAWQUEUE_DRAIN_S": "60"})

    assert all(program.stop_s > 60 for program in programs_of(settings) if program.name != "redis")
