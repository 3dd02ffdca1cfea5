"""Routes that document themselves: what a route checks, answers and refuses is said once and read twice."""

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, get_type_hints

from flask import request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.info import Info
from flask_openapi3.models.license import License
from flask_openapi3.models.schema import Schema
from flask_openapi3.models.tag import Tag
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel, ValidationError

from contract.access import Scope
from contract.errors import NotFoundError, PawqueueError, UploadError
from gateway import VERSION
from gateway.answers import PROBLEMS_OF_ACCESS, PROBLEMS_OF_ALL, refusals
from gateway.schemas import Problem
from gateway.services import Services

View = TypeVar("View", bound=Callable[..., Any])

#: Of a JSON body; pictures have a limit of their own.
_BODY_MAX_BYTES = 65_536

_ABOUT = """Pictures go in, wait in a durable queue, are predicted in batches, and every accepted picture gets exactly
one outcome.

A `202` is sent only after the job is written. Every refusal is a problem (RFC 9457): its `code` is for programs, its
`detail` says what to do. `429` and `503` carry `Retry-After`: the same request may succeed then."""

_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer pq_...`."},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same, in this header."},
}


class Api(OpenAPI):
    """The application; its document says nothing that its routes have not said."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(
            name,
            info=Info(title="Pawqueue", version=VERSION, description=_ABOUT, license=License(name="MIT")),
            security_schemes=_SCHEMES,
            operation_id_callback=_operation_id,
            doc_ui=False,
            **options,
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


class Routes:
    """The routes of one part of the interface: each is guarded, checked and documented by one declaration.

    A view names what it reads by its parameters: `path`, `query`, `header` and `body`, each a pydantic model. It is
    called with them checked; what does not fit is refused with 404 (`path`) or 400 (the others).
    """

    def __init__(self, name: str, services: Services, about: str, prefix: str | None = None) -> None:
        tags = [Tag(name=name, description=about)]
        self.blueprint = APIBlueprint(
            name, __name__, url_prefix=prefix, abp_tags=tags, operation_id_callback=_operation_id
        )
        self._services = services
        self._of_access = PROBLEMS_OF_ACCESS if services.guard.access.required else ()

    def add(
        self,
        method: str,
        rule: str,
        *,
        scope: Scope | None,
        answers: dict[int, Any],
        refuses: Sequence[type[PawqueueError]] = (),
        **extensions: Any,
    ) -> Callable[[View], View]:
        """Register the decorated view; its docstring is its documentation.

        Args:
            method: GET, POST, PUT or DELETE.
            rule: Flask's, below the prefix.
            scope: What an API key must have for it; None: it is open.
            answers: By status, as `gateway.answers.answer` makes them.
            refuses: The errors that it may answer beside those that all routes share.
            extensions: Further members of the OpenAPI operation, such as `requestBody`.
        """
        shared = (*PROBLEMS_OF_ALL, *self._of_access) if scope is not None else ()

        def register(view: View) -> View:
            if scope is not None:
                self._services.guard.scopes[f"{self.blueprint.name}.{view.__name__}"] = scope
            summary, _, description = inspect.cleandoc(view.__doc__ or "").partition("\n\n")
            add = getattr(self.blueprint, method.lower())
            add(
                rule,
                summary=summary.rstrip("."),
                description=description or None,
                responses=refusals(dict.fromkeys([*refuses, *_of_checks(view), *shared])) | answers,
                security=_security(scope) if self._of_access else None,
                openapi_extensions=extensions,
            )(_checked(view))
            return view

        return register


def _security(scope: Scope | None) -> list[dict[str, list[str]]] | None:
    return None if scope is None else [{"bearer": [str(scope)]}, {"api_key": [str(scope)]}]


def _operation_id(*, bp_name: str = "", name: str = "", **_: str) -> str:
    return f"{bp_name}_{name}"


def _of_checks(view: Callable[..., Any]) -> list[type[PawqueueError]]:
    """What is answered where a parameter of the view does not fit."""
    names = get_type_hints(view).keys()
    found: list[type[PawqueueError]] = [NotFoundError] if "path" in names else []
    return [*found, UploadError] if names & {"query", "header", "body"} else found


def _checked(view: Callable[..., Any]) -> Callable[..., Any]:
    """`view`, called with its parameters read from the request and checked.

    The library would do the same, but makes the schemas of all models anew for every request.
    """
    kinds = get_type_hints(view)
    readers = [(name, kinds[name], read(kinds[name])) for name, read in _READERS.items() if name in kinds]

    @wraps(view)
    def call(**in_path: str) -> Any:
        return view(**{name: _fitting(kind, name, read(in_path)) for name, kind, read in readers})

    call.__doc__ = None  # what it says is given to the library in parts, which would say it twice
    call.__delay_validate_request__ = True  # type: ignore[attr-defined]  # the library's own mark for it
    return call


def _fitting(kind: type[BaseModel], name: str, values: Any) -> BaseModel:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise _misfit(name, problem) from None


def _misfit(place: str, problem: Any) -> PawqueueError:
    member = ".".join(map(str, problem["loc"])) or "the body"
    if place == "path":
        what = member.replace("_", " ")
        return NotFoundError(f"This is no {what}. It is a UUID in lower case, as the service gave it.")
    wanted = problem["msg"].replace("Input should be", "must be").replace("String should", "must")
    return UploadError(f"{member}={str(problem['input'])[:40]!r}: {wanted}.")


def _read_headers(kind: type[BaseModel]) -> Callable[[dict[str, str]], dict[str, str]]:
    names = [field.alias or name for name, field in kind.model_fields.items()]

    def read(_in_path: dict[str, str]) -> dict[str, str]:
        headers = request.headers
        return {name: value for name in names if (value := headers.get(name)) is not None}

    return read


def _read_query(kind: type[BaseModel]) -> Callable[[dict[str, str]], dict[str, Any]]:
    lists = [name for name, field in kind.model_fields.items() if "list" in str(field.annotation)]

    def read(_in_path: dict[str, str]) -> dict[str, Any]:
        values: dict[str, Any] = request.args.to_dict()
        return values | {name: request.args.getlist(name) for name in lists if name in values}

    return read


def _read_body(_kind: type[BaseModel]) -> Callable[[dict[str, str]], Any]:
    def read(_in_path: dict[str, str]) -> Any:
        request.max_content_length = _BODY_MAX_BYTES
        try:
            return request.get_json(force=True) if request.get_data() else {}
        except RecursionError:
            raise UploadError("The body is nested too deeply. Send a flat JSON object.") from None

    return read


def _read_path(_kind: type[BaseModel]) -> Callable[[dict[str, str]], dict[str, str]]:
    return lambda in_path: in_path


_READERS = {"path": _read_path, "query": _read_query, "header": _read_headers, "body": _read_body}
