"""Downloads are verified. A failed download is reported in one message and leaves no file."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from training.data.download import download
from training.errors import TrainingError
from training.params import DownloadParams

BODY = b"an archive" * 1000


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "set.zip").write_bytes(BODY)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_is_downloaded_once(tmp_path: Path, address: str) -> None:
    params = DownloadParams(url=f"{address}/set.zip", sha256=hashlib.sha256(BODY).hexdigest())
    target = download(params, tmp_path / "data")
    assert target.read_bytes() == BODY
    (tmp_path / "served" / "set.zip").unlink()
    assert download(params, tmp_path / "data") == target


def test_a_file_with_a_wrong_checksum_is_removed(tmp_path: Path, address: str) -> None:
    with pytest.raises(TrainingError, match=r"download\.sha256"):
        download(DownloadParams(url=f"{address}/set.zip", sha256="0" * 64), tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("path", ["absent.zip", None])
def test_a_missing_file_and_an_unreachable_server_are_reported(tmp_path: Path, address: str, path: str | None) -> None:
    url = f"{address}/{path}" if path else "http://127.0.0.1:9/set.zip"
    with pytest.raises(TrainingError, match="set DATA=path"):
        download(DownloadParams(url=url, sha256="0" * 64), tmp_path / "data")
