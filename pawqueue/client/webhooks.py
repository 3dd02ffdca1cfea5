"""The webhook endpoints: the secret that signs events, and the deliveries that wait or are dead."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pawqueue.client.connection import Call, Connection
from pawqueue.client.deadline import Deadline


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """The secret that signs the events of an API key. Its text form does not show it."""

    secret: str = field(repr=False)
    #: The one before the last rotation, while events are signed with both; else None.
    previous_secret: str | None = field(repr=False)
    #: RFC 3339.
    previous_valid_until: str | None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "WebhookSecret":
        """Read the JSON of the gateway."""
        return cls(values["secret"], values["previous_secret"], values["previous_valid_until"])


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that was not delivered yet."""

    #: The `webhook-id`.
    id: str
    type: str
    #: Id of the job or submission.
    subject: str
    url: str
    #: `waiting` or `dead`.
    status: str
    #: Failed tries.
    tries: int
    #: Why the last try failed; None before the first.
    problem: str | None
    #: Everything that the gateway returned, as documented for `GET /v1/webhooks/deliveries`.
    values: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Delivery":
        """Read the JSON of the gateway."""
        names = ("id", "type", "subject", "url", "status", "tries", "problem")
        return cls(**{name: values[name] for name in names}, values=values)


class Webhooks:
    """The webhook endpoints of one gateway; thread-safe. Methods raise like `Connection.send`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def secret(self, deadline: Deadline) -> WebhookSecret:
        """The secret, which is created when it is first needed."""
        return self._connection.fetch(Call("GET", "/v1/webhooks/secret"), deadline, WebhookSecret.from_dict)

    def rotate(self, keep_s: int, deadline: Deadline) -> WebhookSecret:
        """Create a new secret; the one before it signs events for `keep_s` seconds too."""
        body = json.dumps({"keep_s": keep_s}).encode()
        call = Call("POST", "/v1/webhooks/secret/rotate", body=body, content_type="application/json")
        return self._connection.fetch(call, deadline, WebhookSecret.from_dict)

    def deliveries(self, limit: int, deadline: Deadline, *, only_dead: bool) -> list[Delivery]:
        """The deliveries, newest first."""
        query: dict[str, str | list[str]] = {"limit": str(limit), **({"status": "dead"} if only_dead else {})}
        return self._connection.fetch(Call("GET", "/v1/webhooks/deliveries", query), deadline, _deliveries)

    def delivery(self, delivery_id: str, deadline: Deadline) -> Delivery:
        """One delivery."""
        return self._connection.fetch(Call("GET", _path(delivery_id)), deadline, Delivery.from_dict)

    def redeliver(self, delivery_id: str, deadline: Deadline) -> Delivery:
        """Deliver an event again."""
        return self._connection.fetch(Call("POST", f"{_path(delivery_id)}/redeliver"), deadline, Delivery.from_dict)


def _path(delivery_id: str) -> str:
    return f"/v1/webhooks/deliveries/{quote(delivery_id, safe='')}"


def _deliveries(values: dict[str, Any]) -> list[Delivery]:
    return [Delivery.from_dict(item) for item in values["deliveries"]]
