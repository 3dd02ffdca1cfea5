"""A real nginx in front of the services."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.services import accepts_connections, free_port, running, wait_until

#: One process, as the current user, that writes only into its folder.
_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {servers}
}}
"""


def find_nginx() -> str:
    """The path of nginx. Without nginx the test is skipped; in CI it fails."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if found is None:
        missing = "no nginx found; install it to run tests behind a proxy"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@contextmanager
def running_nginx(folder: Path, *servers: str) -> Iterator[list[str]]:
    """Start nginx with a server for each string of directives; yields the URLs of the servers."""
    ports = [free_port() for _ in servers]
    blocks = [
        f"server {{ listen 127.0.0.1:{port}; {directives} }}" for port, directives in zip(ports, servers, strict=True)
    ]
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, servers="\n".join(blocks)))
    with running("nginx", [find_nginx(), "-p", str(folder), "-c", str(config), "-e", "stderr"], folder) as process:
        for port in ports:
            wait_until(lambda port=port: accepts_connections(port), f"nginx listening: {process.tail()}", 15)
        yield [f"http://127.0.0.1:{port}" for port in ports]
