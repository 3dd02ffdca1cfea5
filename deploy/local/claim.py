"""One set of services per state folder: a lock that goes with the process that holds it, however that ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from deploy.local.errors import UsageError

_FOLDERS = ("run", "logs", "redis")


@contextlib.contextmanager
def claimed(state_dir: Path) -> Iterator[None]:
    """Keep the state folder for this process.

    Raises:
        UsageError: somebody else has it, or it cannot be written.
    """
    with _lock_file(state_dir) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"The services of {state_dir} are running already (process {_owner(lock)}): stop those first, "
                "or set PAWQUEUE_STATE_DIR, PAWQUEUE_GATEWAY_PORT, PAWQUEUE_DASHBOARD_PORT, PAWQUEUE_REDIS_PORT and "
                "PAWQUEUE_WORKER_METRICS_PORT to start others beside them."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _lock_file(state_dir: Path) -> TextIO:
    try:
        for name in _FOLDERS:
            (state_dir / name).mkdir(parents=True, exist_ok=True)
        return (state_dir / "run" / "lock").open("a+")
    except OSError as error:
        raise UsageError(
            f"{state_dir} cannot be used ({error.strerror}): set PAWQUEUE_STATE_DIR to a folder that can be written."
        ) from None


def _owner(lock: TextIO) -> str:
    lock.seek(0)
    return lock.readline().strip()
