"""What a user asks for, as the command line passes it to the process that imports, and the error of a failed import."""

from dataclasses import asdict, dataclass, field
from typing import Any

from bundle.target import Filter, Resize


@dataclass(frozen=True)
class Request:
    """The arguments of `pawqueue models import`."""

    #: Path, or `hf://owner/name`.
    source: str
    name: str
    #: Folder or URL of the model store.
    store: str
    labels: str | None = None
    labels_from: str | None = None
    scale: str | None = None
    resize: Resize | None = None
    filter: Filter | None = None
    #: Height and width.
    size: tuple[int, int] | None = None
    output: str | None = None
    signature: str | None = None
    #: Whether each label has its own probability; None if the user did not say.
    multi_label: bool | None = None
    modules: list[str] = field(default_factory=list)
    trust_code: bool = False
    check: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The request as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Request":
        """Read the output of `to_dict`."""
        size = values.pop("size")
        return cls(**values, size=tuple(size) if size else None)


class ImportFailedError(Exception):
    """The network cannot be imported as requested; the message is one sentence that says what to do."""
