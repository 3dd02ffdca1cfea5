"""Route declarations: each validates requests, sets the required scope and documents the operation."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar, get_origin, get_type_hints

from flask import Blueprint, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.routing import BaseConverter

from contract.access import Scope
from contract.errors import NotFoundError, PawqueueError, UploadError, UploadTooLargeError
from contract.settings import Settings

View = TypeVar("View", bound=Callable[..., Any])
Model = TypeVar("Model", bound=BaseModel)

#: Limit of a JSON body; image bodies have their own.
_BODY_MAX_BYTES = 65_536

LOCATION = {"Location": {"description": "URL of the job or submission.", "schema": {"type": "string"}}}
RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait before the next request.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
PREFERENCE = {"Preference-Applied": {"description": "The wait that was applied.", "schema": {"type": "string"}}}


@dataclass(frozen=True)
class JsonResponse:
    """A documented JSON response: the model of its body, a description, examples by name, headers."""

    model: type[BaseModel]
    text: str
    examples: Mapping[str, Any]
    headers: Mapping[str, Any] = field(default_factory=dict)


def link(path: str) -> str:
    """The URL of a path of this gateway, for the client of the current request: it starts with the proxy's prefix."""
    return request.script_root + path


class PathPart(BaseConverter):
    """A path parameter: the part of a path between slashes, without a verb such as `:predict` behind it."""

    regex = "[^/:]+"
    part_isolating = True


#: Documented responses by status: a `JsonResponse`, or an OpenAPI response object whose schemas may be models.
Responses = Mapping[int, JsonResponse | dict[str, Any]]


@dataclass(frozen=True)
class Operation:
    """A declared route.

    `errors` lists only route-specific errors. Validation and authentication errors are added to the document.
    """

    method: str
    rule: str
    view: Callable[..., Any]
    scopes: tuple[Scope, ...]
    is_status: bool
    responses: Responses
    errors: tuple[type[PawqueueError], ...]
    extensions: dict[str, Any]

    def required_scopes(self, settings: Settings) -> tuple[Scope, ...]:
        """The scopes that an API key needs for this operation; none if the operation is open."""
        is_open = self.is_status and settings.metrics_access == "open"
        return () if is_open else self.scopes

    def parameters(self) -> dict[str, type[BaseModel]]:
        """The models of `path`, `query`, `header` and `body` that the view reads."""
        hints = get_type_hints(self.view)
        return {name: hints[name] for name in _READERS if name in hints}


class Routes:
    """The routes of one part of the API.

    A view declares its inputs as parameters named `path`, `query`, `header` and `body`, each a pydantic model. They
    are validated before the view is called. An invalid path parameter returns 404; any other returns 400.
    """

    def __init__(
        self, name: str, about: str, prefix: str = "", *, title: str = "", key_responses: Responses | None = None
    ) -> None:
        """Declare a part of the API.

        Args:
            name: First part of its operation ids.
            about: Its description in the OpenAPI document.
            prefix: Prepended to the rules.
            title: Its heading in the OpenAPI document; defaults to the capitalized name.
            key_responses: Documented responses to a missing or rejected API key, if they are not problem details.
        """
        self.blueprint = Blueprint(name, __name__, url_prefix=prefix or None)
        self.about = about
        self.title = title or name.capitalize()
        self.prefix = prefix
        self.key_responses = key_responses or {}
        self.operations: list[Operation] = []

    def add(
        self,
        method: str,
        rule: str,
        *,
        scope: Scope | tuple[Scope, ...] | None,
        responses: Responses,
        errors: Sequence[type[PawqueueError]] = (),
        is_status: bool = False,
        **extensions: Any,
    ) -> Callable[[View], View]:
        """Register the decorated view; its docstring becomes its description in the OpenAPI document.

        Args:
            method: GET, POST, PUT or DELETE.
            rule: Flask's rule, without the prefix.
            scope: The scope, or scopes, that an API key needs; None if the route is open.
            responses: Documented responses by status.
            errors: Route-specific errors.
            is_status: Whether the route is open unless `PAWQUEUE_METRICS_ACCESS` requires a key.
            extensions: Additional members of the OpenAPI operation, such as `requestBody`.
        """

        def register(view: View) -> View:
            scopes = scope if isinstance(scope, tuple) else (scope,) if scope else ()
            operation = Operation(method, rule, view, scopes, is_status, responses, tuple(errors), extensions)
            self.operations.append(operation)
            self.blueprint.add_url_rule(rule, view_func=_checked(operation), methods=[method])
            return view

        return register


def _checked(operation: Operation) -> Callable[..., Any]:
    """Wrap the operation's view so that it is called with validated parameters."""
    view = operation.view
    readers = [(name, model, _READERS[name](model)) for name, model in operation.parameters().items()]

    @wraps(view)
    def call(**path_values: str) -> Any:
        return view(**{name: validated(model, name, read(path_values)) for name, model, read in readers})

    return call


def validated(model: type[Model], location: str, values: Any) -> Model:
    """The values as an instance of `model`.

    Raises:
        UploadError: they do not match it.
        NotFoundError: they do not match it, and `location` is `path`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _error_of(location, error.errors(include_url=False)[0]) from None


def _error_of(location: str, problem: Any) -> PawqueueError:
    member = ".".join(map(str, problem["loc"])) or "the body"
    if location == "path":
        return NotFoundError(f"Not a {member.replace('_', ' ')}: expected a lowercase UUID.")
    wanted = problem["msg"].replace("Input should be", "must be").replace("String should", "must")
    return UploadError(f"{member}={str(problem['input'])[:40]!r}: {wanted}.")


def _read_headers(model: type[BaseModel]) -> Callable[[dict[str, str]], dict[str, str]]:
    names = [field.alias or name for name, field in model.model_fields.items()]

    def read(_path_values: dict[str, str]) -> dict[str, str]:
        headers = request.headers
        return {name: value for name in names if (value := headers.get(name)) is not None}

    return read


def _read_query(model: type[BaseModel]) -> Callable[[dict[str, str]], dict[str, Any]]:
    lists = [name for name, field in model.model_fields.items() if get_origin(field.annotation) is list]

    def read(_path_values: dict[str, str]) -> dict[str, Any]:
        values: dict[str, Any] = request.args.to_dict()
        return values | {name: request.args.getlist(name) for name in lists if name in values}

    return read


def _read_body(_model: type[BaseModel]) -> Callable[[dict[str, str]], Any]:
    def read(_path_values: dict[str, str]) -> Any:
        try:
            return json.loads(_body() or b"{}")
        except ValueError:
            raise UploadError("The body is not valid JSON. Send a JSON object.") from None
        except RecursionError:
            raise UploadError("The body is nested too deeply. Send a flat JSON object.") from None

    return read


def _body() -> bytes:
    request.max_content_length = _BODY_MAX_BYTES + 1  # a body without Content-Length ends there without an error
    data: bytes | None = None
    with suppress(RequestEntityTooLarge):
        data = request.get_data()
    if data is None or len(data) > _BODY_MAX_BYTES:
        raise UploadTooLargeError(f"The JSON body is larger than the limit of {_BODY_MAX_BYTES:,} bytes. Shorten it.")
    return data


def _read_path(_model: type[BaseModel]) -> Callable[[dict[str, str]], dict[str, str]]:
    return lambda path_values: path_values


_READERS = {"path": _read_path, "query": _read_query, "header": _read_headers, "body": _read_body}
