"""Follows a job or a submission through the server-sent events of the gateway."""

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pawqueue.client.connection import Call, Connection
from pawqueue.client.deadline import Deadline, retry_pause_s
from pawqueue.client.errors import ClientError

Record = TypeVar("Record")

#: The gateway sends at least a comment every 15 s; a shorter time limit would interrupt a stream that works.
SILENCE_S = 20.0
_ACCEPT = "text/event-stream, application/problem+json"
_FIELDS = frozenset({"event", "id", "data", "retry"})
#: When to reconnect, unless the gateway has sent a time.
_RETRY_S = 1.0


def follow(
    connection: Connection, path: str, parse: Callable[[dict[str, Any]], Record], deadline: Deadline
) -> Iterator[Record]:
    """Yield the job or submission at a path in its current state, and after each change until it has finished.

    Reconnects when the stream ends early; every line renews the deadline. Raises like `Connection.send`.
    """
    last_id, retry_s, tries = "", _RETRY_S, 0
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        call = Call("GET", f"{path}/events", accept=_ACCEPT, headers=headers)
        try:
            for block in _blocks(connection, call, deadline):
                tries = 0
                if block.get("retry", "").isdecimal():
                    retry_s = int(block["retry"]) / 1000
                if "data" in block:
                    last_id = block.get("id", "")
                    yield _parsed(connection, block["data"], parse)
                if block.get("event") == "finished":
                    return
        except ClientError as error:
            tries += 1
            if not error.retryable or not deadline.pause(retry_pause_s(tries, error.retry_after_s)):
                raise
        else:
            deadline.pause(retry_s)


def _blocks(connection: Connection, call: Call, deadline: Deadline) -> Iterator[dict[str, str]]:
    """Yield the fields before each empty line; an incomplete block at the end is dropped."""
    fields: dict[str, str] = {}
    for line in connection.lines(call, deadline):
        name, _, value = line.partition(":")
        if name and name not in _FIELDS:
            raise connection.not_a_gateway()
        deadline.renew()
        if line:
            fields[name] = value.removeprefix(" ")  # a comment has an empty name
        else:
            yield fields
            fields = {}


def _parsed(connection: Connection, data: str, parse: Callable[[dict[str, Any]], Record]) -> Record:
    try:
        return parse(json.loads(data))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise connection.not_a_gateway() from error
