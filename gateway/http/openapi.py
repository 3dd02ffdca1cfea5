"""The OpenAPI 3.1 document, generated from the route declarations and their pydantic models."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from contract.errors import (
    ForbiddenError,
    ForbiddenOriginError,
    HeadersTooLargeError,
    HeadTooSlowError,
    NotFoundError,
    PawqueueError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedEncodingError,
    UploadError,
    UrlTooLongError,
)
from contract.settings import Settings
from gateway import VERSION
from gateway.http.job_schemas import Problem
from gateway.http.routing import RETRY_AFTER, JsonResponse, Operation, Responses, Routes

_ABOUT = """Upload images; each becomes a job in a durable queue, is classified in a batch, and gets exactly one result.

A `202` is returned only after the job is recorded. Every error is a problem (RFC 9457): `code` is for programs,
`detail` is for people. `429` and `503` have a `Retry-After` header: retry the same request later."""

_SECURITY_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer pq_...`."},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key in this header."},
}
#: Errors of every operation with a scope, and those of a gateway with and without API keys.
_SHARED_ERRORS: tuple[type[PawqueueError], ...] = (
    HeadTooSlowError,
    UrlTooLongError,
    HeadersTooLargeError,
    UnavailableError,
)
_KEY_ERRORS: tuple[type[PawqueueError], ...] = (UnauthorizedError, ForbiddenError, RateLimitedError)
_OPEN_ERRORS: tuple[type[PawqueueError], ...] = (ForbiddenOriginError,)
_REF = "#/components/schemas/{model}"


def write_document(parts: Iterable[Routes], settings: Settings) -> dict[str, Any]:
    """The OpenAPI document of `parts` for a gateway with these settings."""
    writer = _Writer(settings)
    paths: dict[str, Any] = {}
    tags = []
    for routes in parts:
        name = routes.blueprint.name
        tags.append({"name": name, "x-displayName": routes.title, "description": routes.about})
        for operation in routes.operations:
            path = re.sub(r"<(\w+)>", r"{\1}", routes.prefix + operation.rule)
            paths.setdefault(path, {})[operation.method.lower()] = writer.operation(routes, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pawqueue", "version": VERSION, "description": _ABOUT, "license": {"name": "MIT"}},
        "paths": paths,
        "tags": tags,
        "components": {"schemas": writer.schemas(), "securitySchemes": _SECURITY_SCHEMES},
    }


class _Writer:
    """Writes operations, and collects the models to which they refer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models: dict[type[BaseModel], None] = {Problem: None}

    def schemas(self) -> dict[str, Any]:
        """The schemas of all models that were referred to."""
        # In validation mode, members with a default are optional: responses may omit them.
        _, schema = models_json_schema([(model, "validation") for model in self._models], ref_template=_REF)
        schemas: dict[str, Any] = schema["$defs"]
        return dict(sorted(schemas.items()))

    def operation(self, routes: Routes, operation: Operation) -> dict[str, Any]:
        """One operation object."""
        name = routes.blueprint.name
        summary, _, description = inspect.cleandoc(operation.view.__doc__ or "").partition("\n\n")
        parameters = operation.parameters()
        body = parameters.pop("body", None)
        scopes = operation.required_scopes(self._settings)
        needs_key = bool(scopes) and self._settings.access_is_required()
        members = {
            "tags": [name],
            "summary": summary.rstrip("."),
            "description": description,
            "operationId": f"{name}_{operation.view.__name__}",
            "parameters": [row for location, model in parameters.items() for row in _parameters(location, model)],
            "security": [{scheme: [*map(str, scopes)]} for scheme in _SECURITY_SCHEMES] if needs_key else None,
            "requestBody": body and {"required": True, "content": {"application/json": {"schema": self._ref(body)}}},
            "responses": self._responses(routes, operation, is_open=not scopes, needs_key=needs_key),
        }
        return {name: value for name, value in members.items() if value} | self._extensions(operation)

    def _extensions(self, operation: Operation) -> dict[str, Any]:
        """The additional members; a model that is the schema of a request body becomes a reference to it."""
        body = operation.extensions.get("requestBody")
        if body is None:
            return operation.extensions
        content = {kind: self._with_schema(media) for kind, media in body["content"].items()}
        return operation.extensions | {"requestBody": body | {"content": content}}

    def _responses(self, routes: Routes, operation: Operation, *, is_open: bool, needs_key: bool) -> dict[str, Any]:
        kinds = [*operation.errors, *_parameter_errors(operation)]
        if not is_open:
            kinds += [*_SHARED_ERRORS, *(_KEY_ERRORS if needs_key else _OPEN_ERRORS)]
        declared: Responses = {**(routes.key_responses if needs_key else {}), **operation.responses}
        responses = _problems(kinds) | {status: self._response(response) for status, response in declared.items()}
        return {str(status): response for status, response in sorted(responses.items())}

    def _response(self, declared: JsonResponse | dict[str, Any]) -> dict[str, Any]:
        if isinstance(declared, dict):
            if "content" not in declared:
                return declared
            content = {kind: self._with_schema(media) for kind, media in declared["content"].items()}
            return declared | {"content": content}
        examples = {name: {"value": value} for name, value in declared.examples.items()}
        response: dict[str, Any] = {
            "description": declared.text,
            "content": {"application/json": {"schema": self._ref(declared.model), "examples": examples}},
        }
        return response | ({"headers": dict(declared.headers)} if declared.headers else {})

    def _with_schema(self, media: Mapping[str, Any]) -> dict[str, Any]:
        schema = media["schema"]
        return {**media, "schema": schema if isinstance(schema, dict) else self._ref(schema)}

    def _ref(self, model: type[BaseModel]) -> dict[str, str]:
        self._models[model] = None
        return {"$ref": _REF.format(model=model.__name__)}


def _parameters(location: str, model: type[BaseModel]) -> Iterator[dict[str, Any]]:
    schema = model.model_json_schema()
    for name, member in schema["properties"].items():
        shared = {key: member[key] for key in ("description", "example") if key in member}
        is_required = location == "path" or name in schema.get("required", ())
        yield {"name": name, "in": location, "required": is_required, "schema": member} | shared


def _parameter_errors(operation: Operation) -> Iterator[type[PawqueueError]]:
    """The errors returned for invalid parameters."""
    names = operation.parameters().keys()
    if "path" in names:
        yield NotFoundError
    if names & {"query", "header", "body"}:
        yield UploadError
    if "body" in names:
        yield UnsupportedEncodingError


def _problems(kinds: Iterable[type[PawqueueError]]) -> dict[int, dict[str, Any]]:
    """Error responses by status, with an example of each error."""
    by_status: dict[int, list[type[PawqueueError]]] = {}
    for kind in dict.fromkeys(kinds):
        by_status.setdefault(kind.http_status, []).append(kind)
    return {status: _problem(same) for status, same in by_status.items()}


def _problem(kinds: list[type[PawqueueError]]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": "\n".join(f"- `{kind.code}`: {summary_of(kind)}" for kind in kinds),
        "content": {
            "application/problem+json": {
                "schema": {"$ref": _REF.format(model=Problem.__name__)},
                "examples": {kind.code: {"value": _example(kind)} for kind in kinds},
            }
        },
    }
    return response | ({"headers": RETRY_AFTER} if any(kind.retryable for kind in kinds) else {})


def _example(kind: type[PawqueueError]) -> dict[str, Any]:
    return {
        "type": f"urn:pawqueue:error:{kind.code}",
        "title": kind.title,
        "status": kind.http_status,
        "detail": summary_of(kind),
        "code": kind.code,
    }


def summary_of(kind: type[PawqueueError]) -> str:
    """The first line of the docstring of an error class."""
    return (kind.__doc__ or kind.title).strip().split("\n")[0]
