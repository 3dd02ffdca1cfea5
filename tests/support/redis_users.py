"""Redis with the users of `deploy/redis-users.conf`, as Compose and Kubernetes run it."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contract.ledger.users import USERS
from deploy.local.redis_server import find_redis_server
from tests.support.services import ROOT

NAMES = (*(user.name for user in USERS), "admin")


@dataclass(frozen=True)
class RedisUsers:
    """The users, with generated passwords."""

    #: The configuration file of Redis that has them.
    config: Path
    #: Whether Redis distinguishes keys that a user may only read; older versions let the user change them too.
    has_read_only_keys: bool
    _passwords: dict[str, str]

    def url(self, user: str, port: int) -> str:
        """The URL with which this user connects to Redis at a port of this machine."""
        return f"redis://{user}:{self._passwords[user]}@127.0.0.1:{port}/0"


def make_users(folder: Path) -> RedisUsers:
    """Write the users into `folder` with the script that operators run."""
    subprocess.run(["sh", "deploy/compose/make-secrets", str(folder)], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    passwords = {name: _password((folder / f"redis_url_{name}").read_text()) for name in NAMES}
    has_read_only_keys = _redis_version() >= 7
    config = folder / "used.conf"
    text = (folder / "redis.conf").read_text()
    config.write_text(text if has_read_only_keys else text.replace("%R~", "~"))
    return RedisUsers(config, has_read_only_keys, passwords)


def _password(url: str) -> str:
    return url.split(":")[2].partition("@")[0]


def _redis_version() -> int:
    command: Sequence[str] = [str(find_redis_server()), "--version"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(printed.partition("v=")[2].partition(".")[0])
