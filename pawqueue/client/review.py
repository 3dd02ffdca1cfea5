"""The review endpoints: images of doubtful results that people labeled."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from contract.job import is_job_id
from pawqueue.client.connection import Call, Connection
from pawqueue.client.deadline import Deadline

_PATH = "/v1/review"


@dataclass(frozen=True, slots=True)
class ReviewedImage:
    """An image that is kept for review."""

    job_id: str
    #: What it shows; empty if nobody has labeled it.
    label: str
    predicted: str
    file: str
    size_bytes: int
    #: Everything that the gateway returned, as documented for `GET /v1/review`.
    values: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ReviewedImage":
        """Read an image from the JSON of the gateway."""
        if not is_job_id(values["job_id"]):
            raise ValueError("not a job id")
        return cls(
            values["job_id"], values["label"] or "", values["predicted"], values["file"], values["size_bytes"], values
        )


class Reviews:
    """Reads the images that are kept for review."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def kept(self, deadline: Deadline, *, labeled: bool) -> Iterator[ReviewedImage]:
        """All images, or only those with a label, in the order in which they were kept."""
        following: int | None = 0
        while following is not None:
            call = Call("GET", _PATH, {"labeled": str(labeled).lower(), "after": str(following)})
            images, following = self._connection.fetch(call, deadline, _page)
            yield from images

    def image(self, job_id: str, deadline: Deadline) -> bytes:
        """An image as it was sent."""
        call = Call("GET", f"{_PATH}/{job_id}/image", accept="image/*, application/problem+json")
        return self._connection.send(call, deadline).content


def _page(values: dict[str, Any]) -> tuple[list[ReviewedImage], int | None]:
    return [ReviewedImage.from_dict(image) for image in values["images"]], values["next"]
