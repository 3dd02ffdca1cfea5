"""A bucket in memory, behind the scheme `gs://`."""

from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class Bucket(MemoryFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """The driver of the scheme."""

    protocol = "gs"
    store: dict[str, Any] = {}  # noqa: RUF012 - as in the base class
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("gs://").strip("/")


def bucket_with(objects: dict[str, bytes]) -> None:
    """Fill the bucket with objects, by their path."""
    fsspec.register_implementation("gs", Bucket, clobber=True)
    Bucket.store.clear()
    Bucket().pipe({f"/{path}": data for path, data in objects.items()})
