"""On a full disk nothing is acknowledged that is not kept."""

from contextlib import suppress
from pathlib import Path

import pytest

from contract.broker import INTERACTIVE
from contract.errors import UnavailableError
from contract.job import Job, new_job_id, now_ms
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.ledger.types import Submitted
from deploy.local.redis_server import find_redis_server, redis_command
from tests.support.ledger import store
from tests.support.services import free_port, running, wait_until

_JOBS = 2000


def is_there(ledger: Ledger) -> bool:
    with suppress(UnavailableError):
        ledger.ping()
        return True
    return False


def fill(ledger: Ledger, stored: list[str]) -> None:
    """Store jobs, and note those that were acknowledged."""
    for _ in range(_JOBS):
        job = Job(new_job_id(), INTERACTIVE, now_ms(), image="x")
        assert store(ledger, [job]) == [Submitted.STORED]
        stored.append(job.id)


def test_redis_acknowledges_nothing_that_its_disk_does_not_keep(tmp_path: Path) -> None:
    port, stored = free_port(), list[str]()
    command = redis_command(find_redis_server(), port, tmp_path)
    # No file may grow beyond some 50 to 100 kB, and to try it is an error, as on a full disk.
    full = ["sh", "-c", 'trap "" XFSZ; ulimit -f 100; exec "$@"', "sh", *command]
    ledger = Ledger(connect(f"redis://127.0.0.1:{port}/0"))
    with running("full", full, tmp_path):
        wait_until(lambda: is_there(ledger), "Redis answering")
        with pytest.raises(UnavailableError, match="try again"):
            fill(ledger, stored)
    assert stored
    with running("again", command, tmp_path):
        wait_until(lambda: is_there(ledger), "Redis answering again")
        assert None not in ledger.get(stored)
