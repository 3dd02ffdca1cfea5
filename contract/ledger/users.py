"""The Redis users of the services: each may use only the commands, keys and channels that its service needs.

`python -m contract.ledger.users` prints them as `deploy/redis-users.conf`. Start reading at `USERS`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from contract.ledger import keys
from contract.ledger.connection import read_scripts
from contract.queues import QUEUES

#: Of every service: the check at startup.
_ALWAYS = "PING MULTI EXEC"
#: Without these, a service logs a warning that lists what it could not check.
_OPTIONAL = ("INFO", "CONFIG")
_SCRIPTS = "EVALSHA SCRIPT"
#: Of a command with this name, only this subcommand is needed.
_SUBCOMMANDS = {"SCRIPT": "script|load", "CONFIG": "config|get"}

#: Celery appends the priority of a message.
_QUEUES = tuple(f"{keys.PREFIX}{queue}*" for queue in QUEUES)
_BINDINGS = (f"{keys.PREFIX}_kombu.binding*",)
#: Tickets that a worker has received and not acknowledged.
_UNACKNOWLEDGED = tuple(keys.PREFIX + name for name in ("unacked", "unacked_index", "unacked_mutex"))
_RATES = (f"{keys.RATES}:",)
_COUNTS = (keys.QUEUED, keys.RUNNING, keys.QUEUED_BYTES, keys.TOTALS, keys.ERRORS, keys.DEAD)
_WORKERS = (keys.WORKERS, keys.WORKERS_ALIVE)
_FEEDBACK = (keys.FEEDBACK, keys.FEEDBACK_TOTALS)
_SHADOW = (keys.SHADOW, keys.SHADOW_TOTALS)
_MODEL_COUNTS = (keys.MODEL_COUNTS, keys.MODEL_TOTALS)
_MODELS = (keys.MODELS, keys.MODEL, keys.DEFAULT_MODEL)
#: What the end of a job changes if it has a webhook.
_OUTBOX = (
    *(keys.DELIVERY, keys.DELIVERIES, keys.LANE, keys.LANES, keys.LANE_FAILURES, keys.LANE_PAUSES),
    keys.DEAD_DELIVERIES,
)
#: What a script needs that changes a job or a submission, wherever it runs. Redis compares a key with the patterns in
#: this order, so those that every job uses come first: that halves the cost.
_JOBS = (
    *(keys.JOB, keys.QUEUED, keys.RUNNING, keys.UNSEEN, keys.UNUSED, keys.DEADLINES, keys.QUEUED_BYTES),
    *(keys.COUNTERS, keys.EVENTS, keys.TOTALS, keys.ERRORS, keys.OWNER_JOBS, keys.OWNER_BYTES, keys.OWNER_RECORDS),
    *(keys.SUBMISSION, keys.SUBMISSION_JOBS, keys.SUBMISSION_FINISHED, keys.SUBMISSION_LISTED),
    *(keys.SUBMISSIONS, keys.OPEN_SUBMISSIONS, keys.IDEMPOTENCY, keys.THUMBNAIL, keys.IMAGE),
    *(keys.DISCARDED, keys.PURGING, keys.DEAD, keys.DISAGREEMENTS),
    *(keys.REVIEW, keys.REVIEW_KEPT, keys.REVIEW_WAITING),
    *_OUTBOX,
)


@dataclass(frozen=True)
class RedisUser:
    """A user of Redis. A key that ends with `:` or `*` is the prefix of many keys."""

    name: str
    #: Sent by the service itself; those of the ledger's scripts are added if it may run all scripts.
    own_commands: str
    changed_keys: Sequence[str]
    #: Keys that the user may only read, which Redis enforces since version 7.0.
    read_keys: Sequence[str] = ()
    channels: Sequence[str] = ()
    runs_all_scripts: bool = True

    @cached_property
    def commands(self) -> list[str]:
        """All commands, sorted."""
        in_scripts = _script_commands() if self.runs_all_scripts else set()
        return sorted({*_ALWAYS.split(), *self.own_commands.split(), *in_scripts})

    def rules(self) -> str:
        """The rules of `ACL SETUSER`, without the password."""
        changed = (f"~{pattern_of(key)}" for key in self.changed_keys)
        read = (f"%R~{pattern_of(key)}" for key in self.read_keys)
        channels = (f"&{channel}" for channel in self.channels)
        commands = (f"+{_SUBCOMMANDS.get(name, name.lower())}" for name in [*self.commands, *_OPTIONAL])
        return " ".join(["resetchannels", *changed, *read, *channels, *commands])


def pattern_of(key: str) -> str:
    """The pattern that matches a key, or all keys with a prefix."""
    return f"{key}*" if key.endswith(":") else key


def _script_commands() -> set[str]:
    return set(re.findall(r"redis\.p?call\(\s*['\"](\w+)", "".join(read_scripts().values())))


GATEWAY = RedisUser(
    "gateway",
    f"{_SCRIPTS} SUBSCRIBE HGET HGETALL HVALS EXISTS ZRANK ZREVRANGE ZSCORE LRANGE LREM RPUSH "  # ledger and API keys
    "HKEYS SMEMBERS XREVRANGE "  # models
    "ZCARD ZRANGE ZRANGEBYSCORE "  # review, webhooks
    "GET SET INCRBY TTL "  # secret, rate limits
    "MGET UNLINK",  # images, in a Redis of their own
    changed_keys=(
        *(*_JOBS, *_RATES, *_QUEUES, keys.SECRET, keys.MODEL, keys.MODEL_CHANGES, keys.TRIAL),
        *(*_FEEDBACK, *_SHADOW, keys.WEBHOOK_SECRET, keys.GONE_ENDPOINTS),
    ),
    read_keys=(keys.DELIVERY_TOTALS, keys.API_KEYS, *_WORKERS, keys.MODELS, keys.DEFAULT_MODEL, *_MODEL_COUNTS),
    channels=(keys.DONE,),
)
WORKER = RedisUser(
    "worker",
    f"{_SCRIPTS} ZRANGEBYSCORE TIME LRANGE LREM RPUSH HDEL HGETALL ZREM "  # ledger
    "BRPOP RPOP LPOP LPUSH LLEN SADD SMEMBERS HSET HGET HDEL ZADD ZREM ZREVRANGE WATCH GET SET DEL EXPIRE "  # Celery
    "MGET UNLINK",  # images
    changed_keys=(
        *(*_JOBS, keys.LEADER, *_WORKERS, *_QUEUES, *_BINDINGS, *_UNACKNOWLEDGED),
        *(*_MODELS, keys.MODEL_CHANGES, keys.TRIAL, *_MODEL_COUNTS, *_SHADOW),
    ),
    channels=(keys.DONE,),
)
DASHBOARD = RedisUser(
    "dashboard",
    f"{_SCRIPTS} TIME GET HGET HMGET HGETALL HVALS SMEMBERS EXISTS MGET ZCARD ZRANGE ZRANGEBYSCORE XREVRANGE "
    "SET INCRBY TTL",  # rate limits
    changed_keys=_RATES,
    read_keys=(
        keys.JOB,
        keys.EVENTS,
        keys.COUNTERS,
        keys.THUMBNAIL,
        keys.API_KEYS,
        *_COUNTS,
        *_WORKERS,
        *_MODELS,
        *_FEEDBACK,
        *_SHADOW,
        keys.DISAGREEMENTS,
        keys.MODEL_COUNTS,
        *(keys.LANES, keys.DEAD_DELIVERIES, keys.DELIVERY_TOTALS),
    ),
    runs_all_scripts=False,
)
NOTIFIER = RedisUser(
    "notifier",
    f"{_SCRIPTS} TIME DEL EXPIRE HDEL HEXISTS HGET HGETALL HINCRBY HMGET HSET UNLINK "
    "ZADD ZCARD ZRANGE ZRANGEBYSCORE ZREM",
    changed_keys=(*_OUTBOX, keys.DELIVERY_TOTALS, keys.WEBHOOK_SECRET, keys.GONE_ENDPOINTS, keys.UNUSED),
    runs_all_scripts=False,
)
#: For `pawqueue keys`.
KEYS = RedisUser("keys", "HGET HVALS HSET", changed_keys=(keys.API_KEYS,), runs_all_scripts=False)
USERS = (GATEWAY, WORKER, DASHBOARD, NOTIFIER, KEYS)
#: A user whom all services share.
_SHARED = RedisUser(
    "",
    " ".join(user.own_commands for user in USERS),
    changed_keys=sorted({key for user in USERS for key in user.changed_keys} - {keys.IMAGE}),
    channels=(keys.DONE,),
)


def user_of(name: str) -> RedisUser:
    """The user with this name; for another name, one whom all services share."""
    return next((user for user in USERS if user.name == name), _SHARED)


#: Where the users are written, relative to the project folder.
USERS_FILE = "deploy/redis-users.conf"
_HEAD = """\
# The users of Redis 7, without their passwords: deploy/compose/make-secrets adds them. `make docs` generates this file
# from contract/ledger/users.py. The user admin is for people: backups and inspection.
#
# Nobody can log in as the user default. It has all rights because Redis applies them to what it reads from its
# append-only file at startup: with fewer rights, Redis would silently skip the jobs in it.
user default off resetpass ~* &* +@all
user admin on >PASSWORD_OF_admin ~* &* +@all
"""


def users_file() -> str:
    """The text of `deploy/redis-users.conf`."""
    return _HEAD + "".join(f"user {user.name} on >PASSWORD_OF_{user.name} {user.rules()}\n" for user in USERS)


if __name__ == "__main__":
    print(users_file(), end="")
