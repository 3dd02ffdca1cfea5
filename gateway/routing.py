"""Routes whose declarations are read twice: to check requests, and to write the OpenAPI document."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, get_type_hints

from flask import Blueprint, request
from pydantic import BaseModel, ValidationError

from contract.access import Scope
from contract.errors import NotFoundError, PawqueueError, UploadError
from gateway.answers import Answer
from gateway.services import Services

View = TypeVar("View", bound=Callable[..., Any])

#: Of a JSON body; images have a limit of their own.
_BODY_MAX_BYTES = 65_536


@dataclass(frozen=True)
class Operation:
    """What one route has declared.

    `refuses` are the errors of its own; those of its checks and of access are added where it is documented.
    """

    method: str
    rule: str
    view: Callable[..., Any]
    scope: Scope | None
    answers: Mapping[int, Answer | dict[str, Any]]
    refuses: tuple[type[PawqueueError], ...]
    extensions: dict[str, Any]


class Routes:
    """The routes of one part of the interface: each is guarded, checked and documented by one declaration.

    A view names what it reads by its parameters: `path`, `query`, `header` and `body`, each a pydantic model. It is
    called with them checked; what does not fit is refused with 404 (`path`) or 400 (the others).
    """

    def __init__(self, name: str, services: Services, about: str, prefix: str = "") -> None:
        self.blueprint = Blueprint(name, __name__, url_prefix=prefix or None)
        self.about = about
        self.prefix = prefix
        self.operations: list[Operation] = []
        self._scopes = services.guard.scopes

    def add(
        self,
        method: str,
        rule: str,
        *,
        scope: Scope | None,
        answers: Mapping[int, Answer | dict[str, Any]],
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

        def register(view: View) -> View:
            if scope is not None:
                self._scopes[f"{self.blueprint.name}.{view.__name__}"] = scope
            self.operations.append(Operation(method, rule, view, scope, answers, tuple(refuses), extensions))
            self.blueprint.add_url_rule(rule, view_func=_checked(view), methods=[method])
            return view

        return register


def _checked(view: Callable[..., Any]) -> Callable[..., Any]:
    """`view`, called with its parameters read from the request and checked."""
    kinds = get_type_hints(view)
    readers = [(name, kinds[name], read(kinds[name])) for name, read in _READERS.items() if name in kinds]

    @wraps(view)
    def call(**in_path: str) -> Any:
        return view(**{name: _fitting(kind, name, read(in_path)) for name, kind, read in readers})

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
