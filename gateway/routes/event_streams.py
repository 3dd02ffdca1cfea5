"""The response with the events of a job or a submission."""

from collections.abc import Callable
from typing import Any

from flask import Response, request

from contract.web.bodies import CALLER
from contract.web.connections import caller_of
from gateway.results.events import Record, Stream, event_id, is_last

_OpenStream = Callable[[Record, str, str, Callable[[Record], dict[str, Any]]], Stream[Record]]


def event_response(
    record: Record, known_id: str, open_stream: "_OpenStream[Record]", body: Callable[[Record], dict[str, Any]]
) -> Response:
    """The events of a record that was just read; 204 if the client has the last one.

    `body` makes the data of an event. It is called after the request, so it must not use the request's context.
    """
    if is_last(record) and event_id(record) == known_id:
        return Response(status=204)
    caller = request.environ.get(CALLER) or caller_of(request.remote_addr or "")
    response = Response(open_stream(record, caller, known_id, body), mimetype="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"  # nginx would hold back events until it has a few kilobytes
    return response
