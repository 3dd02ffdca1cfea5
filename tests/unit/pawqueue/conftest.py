"""Fixtures: the gateway in this process, and the `pawqueue` command as a function."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from pawqueue.cli import app
from tests.unit.pawqueue.service import Service

Command = Callable[..., int]


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, kind: str, message: str, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="session")
def _service(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    # A separate database, because its simulated worker must not take messages from other tests.
    images, allowed = tmp_path_factory.mktemp("images"), "images.example.com, gs://photos"
    with closing(Service(redis_url.removesuffix("/0") + "/1", images, fetch_allow=allowed)) as service:
        yield service


@pytest.fixture
def service(clean_redis: str, _service: Service) -> Service:
    """The gateway and its simulated worker, without any jobs."""
    _service.reset()
    return _service


@pytest.fixture(scope="session")
def _server(_service: Service) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, _service.wsgi, threaded=True, request_handler=_Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pawqueue() -> Command:
    """A function that runs the command with its arguments and returns the exit code."""

    def call(*arguments: object) -> int:
        words = [str(argument) for argument in arguments]
        return app.run(lambda: app.cli.main(words, "pawqueue", standalone_mode=False))

    return call


@pytest.fixture
def url(service: Service, _server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the gateway; commands use it by default."""
    monkeypatch.setenv("PAWQUEUE_URL", _server)
    return _server
