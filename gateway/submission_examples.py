"""Examples of what goes over HTTP about submissions, for the OpenAPI document."""

from typing import Any

from gateway.schemas import JOB_ID
from gateway.submission_schemas import SUBMISSION_ID, CountsObject

_ADDRESS = f"/v1/submissions/{SUBMISSION_ID}"


def _example(**members: Any) -> dict[str, Any]:
    return {
        "id": SUBMISSION_ID,
        "name": "Holiday",
        "queue": "bulk",
        "deadline_s": None,
        "status": "open",
        "created_at": "2026-03-01T12:00:00.000Z",
        "closed_at": None,
        "finished_at": None,
        "counts": dict.fromkeys(CountsObject.model_fields, 0),
        "rate_per_s": None,
        "estimated_end_at": None,
        "urls": {
            "self": _ADDRESS,
            "jobs": f"{_ADDRESS}/jobs",
            "results": f"{_ADDRESS}/results",
            "close": f"{_ADDRESS}/close",
        },
    } | members


_NONE = dict.fromkeys(CountsObject.model_fields, 0)
OPEN_SUBMISSION = _example()
RUNNING_SUBMISSION = _example(
    status="closed",
    closed_at="2026-03-01T12:00:02.000Z",
    counts=_NONE | {"total": 1000, "queued": 600, "running": 64, "succeeded": 335, "rejected": 1},
    rate_per_s=250.0,
    estimated_end_at="2026-03-01T12:00:07.656Z",
)
FINISHED_SUBMISSION = _example(
    status="finished",
    closed_at="2026-03-01T12:00:02.000Z",
    finished_at="2026-03-01T12:00:07.500Z",
    counts=_NONE | {"total": 1000, "succeeded": 999, "rejected": 1},
    rate_per_s=181.6,
)
CANCELED_SUBMISSION = _example(
    status="canceled",
    closed_at="2026-03-01T12:00:02.000Z",
    finished_at="2026-03-01T12:00:02.400Z",
    counts=_NONE | {"total": 1000, "succeeded": 120, "canceled": 880},
)
_ACCEPTED = {"custom_id": "beach/cat.jpg", "job_id": JOB_ID, "repeated": False}
TAKEN = {
    "accepted": [_ACCEPTED],
    "rejected": [{"custom_id": "notes.txt", "code": "not_an_image", "detail": "The upload is not an image."}],
    "left": [],
    "left_from": None,
}
RESULT_LINE = {
    "n": 1,
    "custom_id": "beach/cat.jpg",
    "job_id": JOB_ID,
    "status": "succeeded",
    "prediction": {"label": "cat", "confidence": 0.97, "probabilities": {"cat": 0.97, "dog": 0.03}},
    "error": None,
    "model": {"name": "cats-dogs", "version": "1"},
    "attempts": 1,
    "timings": {"queue_ms": 4.0, "batch_wait_ms": 1.2, "decode_ms": 2.1, "predict_ms": 11.0},
    "created_at": "2026-03-01T12:00:00.000Z",
    "finished_at": "2026-03-01T12:00:00.023Z",
}

_BYTES = {"schema": {"type": "string", "format": "binary"}}
#: Many images, as parts of a form or in an archive.
IMAGES_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {
                        "type": "array",
                        "maxItems": 100,
                        "items": {"type": "string", "format": "binary"},
                        "description": "Up to 100 images; the filename of each part is its `custom_id`.",
                    }
                },
            }
        },
        "application/x-tar": _BYTES,
        "application/zip": _BYTES,
    },
}
