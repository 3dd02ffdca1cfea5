"""Redis on a full disk: every accepted job is stored."""

import shlex
from contextlib import suppress
from pathlib import Path

import pytest

from contract.errors import UnavailableError
from contract.job import Job, new_job_id, now_ms
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.ledger.types import SubmitStatus
from contract.queues import INTERACTIVE
from contract.settings import load_settings
from deploy.local.redis_server import find_redis_server, redis_command
from deploy.local.services import service_environ
from tests.support.ledger import store
from tests.support.services import free_port, running, wait_until
from tests.support.small_disk import small_disk

_JOBS = 2000


def responds(ledger: Ledger) -> bool:
    with suppress(UnavailableError):
        ledger.ping()
        return True
    return False


def fill(ledger: Ledger, stored: list[str]) -> None:
    """Submit jobs, and add the ids of the accepted ones to `stored`."""
    for _ in range(_JOBS):
        job = Job(new_job_id(), INTERACTIVE, now_ms(), image="x")
        assert store(ledger, [job]) == [SubmitStatus.STORED]
        stored.append(job.id)


def test_every_accepted_job_survives_a_full_disk(tmp_path: Path) -> None:
    port, stored = free_port(), list[str]()
    command = redis_command(find_redis_server(), port, tmp_path)
    # A file size limit makes writes fail as on a full disk: with SIGXFSZ ignored, they return an error.
    full = ["sh", "-c", 'trap "" XFSZ; ulimit -f 100; exec "$@"', "sh", *command]
    ledger = Ledger(connect(f"redis://127.0.0.1:{port}/0"))
    with running("full", full, tmp_path):
        wait_until(lambda: responds(ledger), "Redis to respond")
        with pytest.raises(UnavailableError, match="Try again"):
            fill(ledger, stored)
    assert stored
    with running("restarted", command, tmp_path):
        wait_until(lambda: responds(ledger), "Redis to respond after its restart")
        assert None not in ledger.get(stored)


def test_the_redis_of_make_up_waits_for_space_and_keeps_every_accepted_job(tmp_path: Path) -> None:
    stored = list[str]()
    with small_disk(tmp_path / "disk", 4000) as disk:
        settings = load_settings({"PAWQUEUE_STATE_DIR": str(disk.path)})
        for folder in ("redis", "run"):
            (disk.path / folder).mkdir()
        command = shlex.split(service_environ(settings, {})["UP_REDIS"])
        ledger = Ledger(connect(settings.redis_address()))
        with running("first", command, tmp_path) as redis:
            wait_until(lambda: responds(ledger), "Redis responding")
            disk.fill(free_bytes=50_000)
            with pytest.raises(UnavailableError, match="Try again"):
                fill(ledger, stored)
            assert redis.handle.wait(10) != 0
        assert stored
        with running("second", command, tmp_path) as redis:  # as the supervisor does
            wait_until(lambda: "Redis starts when 1 MiB is free" in redis.tail(), "Redis waiting")
            disk.make_room()
            wait_until(lambda: responds(ledger), "Redis responding when there is space")
            assert None not in ledger.get(stored)
            fill(ledger, stored)
        assert "Redis starts" not in (tmp_path / "first.log").read_text()
