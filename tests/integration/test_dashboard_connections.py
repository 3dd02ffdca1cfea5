"""Slow connections to the dashboard do not block it for others."""

import socket
from contextlib import ExitStack, closing
from pathlib import Path

import httpx

from tests.support.dashboard import running_dashboard

_SIGN_IN = (
    b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 1000\r\n\r\na"
)


def test_sign_ins_that_hardly_move_keep_nobody_from_signing_in(tmp_path: Path, clean_redis: str) -> None:
    environ = {"PAWQUEUE_REDIS_URL": clean_redis, "PAWQUEUE_STATE_DIR": str(tmp_path / "state")}
    with running_dashboard(tmp_path, environ, access="required") as dashboard, ExitStack() as stack:
        port = int(dashboard.url.rpartition(":")[2])
        slow = [stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), 60))) for _ in range(80)]
        for sock in slow:
            sock.sendall(_SIGN_IN)
        with httpx.Client(base_url=dashboard.url, timeout=60) as http:
            assert http.get("/healthz").status_code == 200
            assert "API key" in http.get("/sign-in").text
            assert http.post("/sign-in", data={"api_key": "wrong"}).status_code == 401
