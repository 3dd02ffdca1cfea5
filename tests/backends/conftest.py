"""Every image store, for the same behaviour tests."""

from pathlib import Path
from typing import Any

import pytest

from contract.images.store import FileImageStore, ImageStore, RedisImageStore, open_image_store


@pytest.fixture(params=["files", "redis", "fsspec"])
def images(request: Any, tmp_path: Path) -> ImageStore:
    if request.param == "files":
        return FileImageStore(tmp_path / "images")
    if request.param == "redis":
        return RedisImageStore(request.getfixturevalue("clean_redis"), ttl_s=60)
    return open_image_store(f"memory://{tmp_path.name}", ttl_s=60)
