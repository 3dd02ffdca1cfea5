"""How answers and refusals stand in the OpenAPI document."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from contract.errors import ForbiddenError, PawqueueError, RateLimitedError, UnauthorizedError, UnavailableError
from gateway.schemas import PROBLEM_TYPE

#: What every route that touches a job may answer.
PROBLEMS_OF_ALL: tuple[type[PawqueueError], ...] = (UnavailableError,)

#: What it may answer besides where API keys are asked for.
PROBLEMS_OF_ACCESS: tuple[type[PawqueueError], ...] = (UnauthorizedError, ForbiddenError, RateLimitedError)

LOCATION = {"Location": {"description": "Address of the job.", "schema": {"type": "string"}}}
RETRY_AFTER = {
    "Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer", "minimum": 1}}
}
PREFERENCE = {"Preference-Applied": {"description": "The wait that was granted.", "schema": {"type": "string"}}}


@dataclass(frozen=True)
class Answer:
    """A good answer: the model of its JSON body, what it says, examples by name, headers."""

    model: type[BaseModel]
    text: str
    examples: Mapping[str, Any]
    headers: Mapping[str, Any] = field(default_factory=dict)


def plain(text: str, mimetype: str, example: str) -> dict[str, Any]:
    """A good answer that is no JSON object."""
    return {"description": text, "content": {mimetype: {"schema": {"type": "string"}, "example": example}}}


def refusals(kinds: Iterable[type[PawqueueError]]) -> dict[int, dict[str, Any]]:
    """Problems by status, an example of each error."""
    by_status: dict[int, dict[str, type[PawqueueError]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.http_status, {})[kind.code] = kind
    return {status: _refusal(list(found.values())) for status, found in by_status.items()}


def _refusal(kinds: list[type[PawqueueError]]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": "\n".join(f"- `{kind.code}`: {_first_line(kind)}" for kind in kinds),
        "content": {
            PROBLEM_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {kind.code: {"value": problem_body(kind, _first_line(kind))} for kind in kinds},
            }
        },
    }
    if any(kind.retryable for kind in kinds):
        described["headers"] = RETRY_AFTER
    return described


def problem_body(kind: type[PawqueueError], detail: str) -> dict[str, Any]:
    """The members of a problem."""
    code = kind.code
    return {
        "type": f"urn:pawqueue:error:{code}",
        "title": kind.title,
        "status": kind.http_status,
        "detail": detail,
        "code": code,
    }


def _first_line(kind: type[PawqueueError]) -> str:
    return (kind.__doc__ or kind.title).strip().split("\n")[0]
