"""The OpenAPI document, written from what the routes have declared when it is first asked for."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, get_type_hints

from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.info import Info
from flask_openapi3.models.license import License
from flask_openapi3.models.schema import Schema
from flask_openapi3.models.tag import Tag
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel

from contract.access import Scope
from contract.errors import NotFoundError, PawqueueError, UploadError
from gateway import VERSION
from gateway.answers import PROBLEMS_OF_ACCESS, PROBLEMS_OF_ALL, Answer, refusals
from gateway.routing import Operation, Routes
from gateway.schemas import Problem

_ABOUT = """Images go in, wait in a durable queue, are predicted in batches, and every accepted image gets exactly
one result.

A `202` is sent only after the job is written. Every refusal is a problem (RFC 9457): its `code` is for programs, its
`detail` says what to do. `429` and `503` carry `Retry-After`: the same request may succeed then."""

_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer pq_...`."},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same, in this header."},
}


def write_document(parts: Iterable[Routes], *, access_is_required: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `parts`, with what access refuses where API keys are asked for."""
    api = _Api("document")
    for routes in parts:
        api.register_api(_documented(routes, access_is_required=access_is_required))
    api.generate_spec_json()
    return api.spec_json


class _Api(OpenAPI):
    """An application that is never served: the library collects in it what the document holds."""

    def __init__(self, name: str) -> None:
        super().__init__(
            name,
            info=Info(title="Pawqueue", version=VERSION, description=_ABOUT, license=License(name="MIT")),
            security_schemes=_SCHEMES,
            doc_ui=False,
            static_folder=None,
        )
        schema = Problem.model_json_schema(mode="serialization")
        self.components_schemas["Problem"] = Schema(**schema)

    def generate_spec_json(self) -> None:
        """Write the document, without the validation error that the library adds to every operation."""
        super().generate_spec_json()  # type: ignore[no-untyped-call]  # the library's, untyped
        kind = self.validation_error_model.__name__
        del self.spec_json["components"]["schemas"][kind]
        for path in self.spec_json["paths"].values():
            for operation in path.values():
                answers = operation["responses"]
                if kind in str(answers.get(self.validation_error_status)):
                    del answers[self.validation_error_status]


def _documented(routes: Routes, *, access_is_required: bool) -> APIBlueprint:
    name = routes.blueprint.name
    blueprint = APIBlueprint(
        name,
        __name__,
        url_prefix=routes.prefix or None,
        abp_tags=[Tag(name=name, description=routes.about)],
        operation_id_callback=_operation_id,
    )
    for operation in routes.operations:
        _add(blueprint, operation, access_is_required=access_is_required)
    return blueprint


def _add(blueprint: APIBlueprint, operation: Operation, *, access_is_required: bool) -> None:
    guarded = access_is_required and operation.scope is not None
    shared = (*PROBLEMS_OF_ALL, *(PROBLEMS_OF_ACCESS if guarded else ())) if operation.scope is not None else ()
    refused = dict.fromkeys([*operation.refuses, *_of_checks(operation.view), *shared])
    summary, _, description = inspect.cleandoc(operation.view.__doc__ or "").partition("\n\n")
    add = getattr(blueprint, operation.method.lower())
    add(
        operation.rule,
        summary=summary.rstrip("."),
        description=description or None,
        responses=refusals(refused) | {status: _described(answer) for status, answer in operation.answers.items()},
        security=_security(operation.scope) if guarded else None,
        openapi_extensions=operation.extensions,
    )(_signature_of(operation.view))


def _signature_of(view: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the name and parameters of `view`, without its docstring, which the library would say twice."""

    def documented() -> None:
        raise NotImplementedError

    documented.__name__ = view.__name__
    documented.__signature__ = inspect.signature(view)  # type: ignore[attr-defined]  # any function may have one
    documented.__annotations__ = get_type_hints(view)
    return documented


def _described(answer: Answer | dict[str, Any]) -> Any:
    return _extended(answer) if isinstance(answer, Answer) else _with_schemas(answer)


def _extended(answer: Answer) -> type[BaseModel]:
    """The answer's model with a configuration from which the library reads the rest of the answer."""
    model = answer.model
    extra = {
        "description": answer.text,
        "examples": {name: {"value": value} for name, value in answer.examples.items()},
        "headers": dict(answer.headers),
    }
    config = {**model.model_config, "openapi_extra": extra, "title": model.__name__}
    return type(model.__name__, (model,), {"model_config": config, "__module__": model.__module__})


def _with_schemas(described: dict[str, Any]) -> dict[str, Any]:
    """`described` with the schema of each model that it names."""
    content = {
        mimetype: media | {"schema": _schema(media["schema"])} for mimetype, media in described["content"].items()
    }
    return described | {"content": content}


def _schema(schema: dict[str, Any] | type[BaseModel]) -> dict[str, Any]:
    if isinstance(schema, dict):
        return schema
    # Its parts are components already, as those of a job are.
    found = schema.model_json_schema(ref_template="#/components/schemas/{model}")
    return {name: value for name, value in found.items() if name != "$defs"}


def _security(scope: Scope | None) -> list[dict[str, list[str]]]:
    return [{"bearer": [str(scope)]}, {"api_key": [str(scope)]}]


def _operation_id(*, bp_name: str = "", name: str = "", **_: str) -> str:
    return f"{bp_name}_{name}"


def _of_checks(view: Callable[..., Any]) -> list[type[PawqueueError]]:
    """What is answered where a parameter of the view does not fit."""
    names = get_type_hints(view).keys()
    found: list[type[PawqueueError]] = [NotFoundError] if "path" in names else []
    return [*found, UploadError] if names & {"query", "header", "body"} else found
