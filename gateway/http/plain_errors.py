"""Errors as `{"error": "..."}`, for the protocols whose clients expect that form."""

from collections.abc import Sequence

from flask import Response, g, jsonify
from pydantic import BaseModel, Field
from werkzeug.exceptions import HTTPException

from contract.errors import PawqueueError, RateLimitedError, UnauthorizedError
from gateway.http.problems import expected_error, headers_of, log_unexpected
from gateway.http.routing import RETRY_AFTER, JsonResponse, Routes


class PlainError(BaseModel):
    """An error."""

    error: str = Field(description="What is wrong and what to do.")


def plain_responses(kinds: Sequence[type[PawqueueError]]) -> dict[int, JsonResponse]:
    """The documented responses to these errors."""
    by_status: dict[int, list[type[PawqueueError]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.http_status, []).append(kind)
    return {status: _response(same) for status, same in by_status.items()}


def return_plain_errors(routes: Routes) -> None:
    """Make these routes return every error in this form."""

    @routes.blueprint.errorhandler(Exception)
    def handle(error: Exception) -> Response:
        expected = expected_error(error)
        if expected:
            g.problem_code = expected.code
            response = _plain(expected.http_status, expected.detail)
            response.headers.extend(headers_of(expected))
            return response
        if isinstance(error, HTTPException) and (error.code or 500) < 500:
            return _plain(error.code or 400, error.description or error.name)
        return _plain(500, log_unexpected(error))


def _plain(status: int, text: str) -> Response:
    response = jsonify({"error": text})
    response.status_code = status
    return response


def _response(kinds: Sequence[type[PawqueueError]]) -> JsonResponse:
    texts = {kind.code: (kind.__doc__ or kind.title).strip().split("\n")[0] for kind in kinds}
    headers = RETRY_AFTER if any(kind.retryable for kind in kinds) else {}
    return JsonResponse(
        PlainError, " ".join(texts.values()), {code: {"error": text} for code, text in texts.items()}, headers
    )


#: The responses to a missing or rejected API key.
KEY_RESPONSES = plain_responses((UnauthorizedError, RateLimitedError))
