"""How answers and refusals stand in the OpenAPI document."""

from collections.abc import Iterable, Mapping
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


def answer(
    model: type[BaseModel], text: str, examples: Mapping[str, Any], headers: Mapping[str, Any] | None = None
) -> type[BaseModel]:
    """A good answer: `model` with its description, examples by name and headers."""
    extra = {
        "description": text,
        "examples": {name: {"value": value} for name, value in examples.items()},
        "headers": dict(headers or {}),
    }
    # The library reads what belongs to the answer from the model's configuration.
    config = {**model.model_config, "openapi_extra": extra, "title": model.__name__}
    return type(model.__name__, (model,), {"model_config": config, "__module__": model.__module__})


def inline(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model whose parts are components already, as those of a job are."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {name: value for name, value in schema.items() if name != "$defs"}


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
