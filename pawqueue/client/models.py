"""The models endpoint: which models a service has, and which version of each is live."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pawqueue.client.connection import Call, Connection
from pawqueue.client.deadline import Deadline
from pawqueue.client.errors import ClientError, TimedOutError
from pawqueue.client.jobs import LONG_POLL_S

_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of a service."""

    name: str
    #: The version that processes jobs without a pinned version.
    live: str
    versions: Sequence[str]
    #: Whether it processes jobs that name no model.
    is_default: bool
    #: Number of workers that take its jobs.
    workers: int
    #: Everything that the gateway returned, as documented for `GET /v1/models`.
    values: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ServedModel":
        """Read a model from the JSON of the gateway."""
        return cls(
            values["name"], values["live"], tuple(values["versions"]), values["default"], values["workers"], values
        )


class Models:
    """Reads and changes the models of a service."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, deadline: Deadline) -> list[ServedModel]:
        """All models, sorted by name."""
        return self._connection.fetch(Call("GET", "/v1/models"), deadline, _models)

    def get(self, name: str, deadline: Deadline) -> ServedModel:
        """One model."""
        return self._connection.fetch(Call("GET", _path(name)), deadline, ServedModel.from_dict)

    def feedback(self, name: str, days: int, deadline: Deadline) -> dict[str, Any]:
        """The accuracy of each version in the last `days` days."""
        return self._connection.fetch(Call("GET", f"{_path(name)}/feedback", {"days": str(days)}), deadline, dict)

    def report(self, name: str, days: int, deadline: Deadline) -> dict[str, Any]:
        """What each version did in the last `days` days."""
        return self._connection.fetch(Call("GET", f"{_path(name)}/report", {"days": str(days)}), deadline, dict)

    def agreement(self, name: str, days: int, deadline: Deadline) -> dict[str, Any]:
        """How often shadows agreed with live versions in the last `days` days."""
        return self._connection.fetch(Call("GET", f"{_path(name)}/shadow", {"days": str(days)}), deadline, dict)

    def disagreements(self, name: str, limit: int, deadline: Deadline) -> dict[str, Any]:
        """The latest jobs for which a shadow and the live version predicted different labels."""
        call = Call("GET", f"{_path(name)}/disagreements", {"limit": str(limit)})
        return self._connection.fetch(call, deadline, dict)

    def patch(self, name: str, values: dict[str, Any], deadline: Deadline) -> ServedModel:
        """Change a model, without waiting for workers."""
        return self._connection.fetch(_patch(name, values), deadline, ServedModel.from_dict)

    def change(self, name: str, values: dict[str, Any], deadline: Deadline) -> ServedModel:
        """Change the live version or the canary, and wait until it has changed.

        Raises:
            ClientError: nothing has changed; the message has the reason.
            TimedOutError: the workers have not loaded it yet.
        """
        model = self._connection.fetch(_patch(name, values, LONG_POLL_S), deadline, ServedModel.from_dict)
        begun = (model.values["change"] or {}).get("revision")
        while model.values["change"]:
            if not deadline.remaining_s():
                raise TimedOutError(
                    f"The workers have not loaded {name}@{model.values['change']['version']} yet. "
                    "The service goes on; see `pawqueue models served`."
                )
            deadline.pause(_POLL_S)
            model = self.get(name, deadline)
        last = model.values["last_change"] or {}
        if begun and last.get("revision") == begun and last["problem"]:
            wanted = "the canary" if last["kind"] == "canary" else "live"
            raise ClientError(f"{name}@{last['version']} did not become {wanted}. {last['problem']}")
        return model


def _path(name: str) -> str:
    return f"/v1/models/{quote(name, safe='')}"


def _patch(name: str, values: dict[str, Any], wait_s: float = 0.0) -> Call:
    body = json.dumps(values).encode()
    return Call("PATCH", _path(name), body=body, content_type="application/json", wait_s=wait_s)


def _models(values: dict[str, Any]) -> list[ServedModel]:
    return [ServedModel.from_dict(model) for model in values["models"]]
