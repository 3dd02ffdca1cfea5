"""One try to deliver an event: its body, its signatures, and what the response means."""

import base64
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass

from contract.destinations import ForbiddenUrlError
from contract.ledger.webhooks import Delivery
from contract.outbound import Outbound, OutboundError
from gateway import VERSION

#: The receiver must respond within this time.
TIMEOUT_S = 15.0
_GONE = 410
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a try led to."""

    #: `delivered`, `failed`, or `gone` if the receiver wants no more events.
    result: str
    #: What was wrong; empty if it was delivered.
    problem: str = ""
    #: How long the receiver wants no further try.
    retry_after_s: int = 0


def send(
    outbound: Outbound, delivery: Delivery, secrets: Sequence[str], prefix: str, now_s: int, traceparent: str = ""
) -> Outcome:
    """Try to deliver an event once; `traceparent` is the trace of its job, for the receiver."""
    body = json.dumps(delivery.payload(prefix), separators=(",", ":"), ensure_ascii=False).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"pawqueue/{VERSION}",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(now_s),
        "webhook-signature": signatures(secrets, delivery.id, now_s, body),
    }
    if traceparent:
        headers["traceparent"] = traceparent
    try:
        reply = outbound.post(delivery.url, body, headers, TIMEOUT_S)
    except (ForbiddenUrlError, OutboundError) as error:
        return Outcome("failed", str(error))
    if 200 <= reply.status < 300:
        return Outcome("delivered")
    shown = "".join(character if character.isprintable() else " " for character in reply.text[:_SHOWN]).strip()
    redirect = " Redirects are not followed: use the URL to which it redirects." if 300 <= reply.status < 400 else ""
    problem = f"The endpoint responded with {reply.status}{': ' if shown else ''}{shown}.{redirect}"
    return Outcome("gone" if reply.status == _GONE else "failed", problem, reply.retry_after_s or 0)


def signatures(secrets: Sequence[str], message_id: str, timestamp_s: int, body: bytes) -> str:
    """The value of `webhook-signature`: a signature with each secret, separated by spaces."""
    content = b"%s.%d.%s" % (message_id.encode(), timestamp_s, body)
    return " ".join(f"v1,{_signature(secret, content)}" for secret in secrets)


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return base64.b64encode(hmac.digest(key, content, "sha256")).decode()
