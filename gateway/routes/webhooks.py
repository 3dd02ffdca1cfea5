"""`/v1/webhooks`: the secret that signs events, and the deliveries that wait or are dead."""

from typing import Any, Literal

from flask import Response, jsonify
from pydantic import BaseModel, ConfigDict, Field

from contract.access import Scope
from contract.errors import NotFoundError
from contract.job import now_ms, time_text
from contract.ledger.webhooks import WebhookSecrets
from gateway.http.auth import caller
from gateway.http.job_schemas import JOB_ID, UUID, WEBHOOK_EXAMPLE, optional
from gateway.http.routing import JsonResponse, Routes
from gateway.services import current_services

routes = Routes(
    "webhooks",
    "Events of finished jobs and submissions, sent to a URL of yours as Standard Webhooks specifies. Each API key has "
    "a secret of its own and sees only the deliveries of its own jobs and submissions.",
    "/v1/webhooks",
)

_DELIVERY_ID = "5f0c6b1e-7d3a-8c42-a9b1-0123456789ab"
_KEEP_MAX_S = 604_800


class SecretObject(BaseModel):
    """The secret that signs events. During a rotation, events have two signatures."""

    secret: str = Field(description="`whsec_` and the key in Base64.")
    created_at: str
    previous_secret: str | None = Field(description="The secret before the last rotation while it signs events too.")
    previous_valid_until: str | None


class RotateBody(BaseModel):
    """How to rotate a secret."""

    model_config = ConfigDict(extra="forbid")

    keep_s: int = Field(
        strict=True,
        ge=0,
        le=_KEEP_MAX_S,
        description="How long the secret before it signs events too, in seconds.",
        json_schema_extra={"example": 86_400},
    )


class DeliveryPath(BaseModel):
    """The id of a delivery in a path."""

    delivery_id: str = Field(
        pattern=UUID, description="A delivery's id: its `webhook-id`.", json_schema_extra={"example": _DELIVERY_ID}
    )


class DeliveriesQuery(BaseModel):
    """Which deliveries to list."""

    status: Literal["waiting", "dead"] = optional("Only those with this status.", "dead")
    limit: int = Field(
        100, ge=1, le=1000, description="Maximum number of deliveries.", json_schema_extra={"example": 100}
    )


class DeliveryObject(BaseModel):
    """An event that was not delivered yet. A delivered one is not kept."""

    id: str = Field(pattern=UUID, description="The `webhook-id`, the same at each try.")
    type: str = Field(
        description="`job.succeeded`, `job.failed`, `job.canceled`, `job.expired`, `submission.finished`."
    )
    subject: str = Field(description="Id of the job or submission.")
    url: str
    status: Literal["waiting", "dead"]
    created_at: str = Field(description="When the job or submission finished.")
    tries: int = Field(description="Failed tries.")
    last_try_at: str | None
    next_try_at: str | None
    problem: str | None = Field(description="Why the last try failed.")


class DeliveryList(BaseModel):
    """A list of deliveries."""

    deliveries: list[DeliveryObject]


_SECRET = {
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "created_at": "2026-03-01T12:00:00.000Z",
    "previous_secret": None,
    "previous_valid_until": None,
}
_DEAD = {
    "id": _DELIVERY_ID,
    "type": "job.succeeded",
    "subject": JOB_ID,
    "url": WEBHOOK_EXAMPLE,
    "status": "dead",
    "created_at": "2026-03-01T12:00:00.000Z",
    "tries": 8,
    "last_try_at": "2026-03-02T15:35:05.000Z",
    "next_try_at": None,
    "problem": "The endpoint responded with 500.",
}
_WAITING = _DEAD | {"status": "waiting", "tries": 0, "last_try_at": None, "next_try_at": "2026-03-03T09:00:00.000Z"}
_ONE_SECRET = JsonResponse(SecretObject, "The secret.", {"secret": _SECRET})


@routes.add("GET", "/secret", scope=Scope.SUBMIT, responses={200: _ONE_SECRET})
def secret() -> Response:
    """Read the secret with which the events of this API key are signed."""
    return _secret_response(current_services().ledger.webhooks.secrets(caller().owner))


@routes.add("POST", "/secret/rotate", scope=Scope.SUBMIT, responses={200: _ONE_SECRET})
def rotate(body: RotateBody) -> Response:
    """Create a new secret.

    For `keep_s` seconds, events are signed with both secrets, so a receiver that has either one can verify them.
    """
    return _secret_response(current_services().ledger.webhooks.rotate(caller().owner, body.keep_s))


@routes.add(
    "GET",
    "/deliveries",
    scope=Scope.READ,
    responses={200: JsonResponse(DeliveryList, "The deliveries, newest first.", {"one": {"deliveries": [_DEAD]}})},
)
def deliveries(query: DeliveriesQuery) -> dict[str, Any]:
    """List the deliveries that wait for a try or are dead."""
    store = current_services().ledger.webhooks
    found = store.latest(caller().owner, query.limit, status=query.status)
    return {"deliveries": [delivery.to_dict() for delivery in found]}


@routes.add(
    "GET",
    "/deliveries/<delivery_id>",
    scope=Scope.READ,
    responses={200: JsonResponse(DeliveryObject, "The delivery.", {"dead": _DEAD})},
    errors=(NotFoundError,),
)
def show(path: DeliveryPath) -> dict[str, Any]:
    """Read one delivery."""
    delivery = current_services().ledger.webhooks.get(caller().owner, path.delivery_id)
    if delivery is None:
        raise _not_found()
    return delivery.to_dict()


@routes.add(
    "POST",
    "/deliveries/<delivery_id>/redeliver",
    scope=Scope.SUBMIT,
    responses={202: JsonResponse(DeliveryObject, "The delivery is due now.", {"waiting": _WAITING})},
    errors=(NotFoundError,),
)
def redeliver(path: DeliveryPath) -> tuple[dict[str, Any], int]:
    """Deliver an event again that is dead or waits, with all tries.

    If its endpoint was switched off because it responded with 410, it is switched on again.
    """
    store, owner = current_services().ledger.webhooks, caller().owner
    delivery = store.redeliver(owner, path.delivery_id)
    if delivery is None:
        raise _not_found()
    return delivery.to_dict(), 202


def _secret_response(secrets: WebhookSecrets) -> Response:
    now = now_ms()
    is_rotating = len(secrets.valid(now)) > 1
    response = jsonify(
        {
            "secret": secrets.current,
            "created_at": time_text(secrets.created_ms),
            "previous_secret": secrets.previous if is_rotating else None,
            "previous_valid_until": time_text(secrets.previous_until_ms) if is_rotating else None,
        }
    )
    response.headers["Cache-Control"] = "no-store"
    return response


def _not_found() -> NotFoundError:
    return NotFoundError("No such delivery: the id is wrong, or the event was delivered, has expired or was purged.")
