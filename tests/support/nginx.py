"""A real nginx in front of the services."""

import os
import shutil
import subprocess
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
    """Start nginx with `server` blocks, in which `LISTEN` stands for an address; yields their addresses."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in servers]
    blocks = [text.replace("LISTEN", address) for text, address in zip(servers, addresses, strict=True)]
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, servers="\n".join(blocks)))
    with running("nginx", [find_nginx(), "-p", str(folder), "-c", str(config), "-e", "stderr"], folder) as process:
        for address in addresses:
            port = int(address.rpartition(":")[2])
            wait_until(lambda port=port: accepts_connections(port), f"nginx listening ({process.log})", 15)
        yield addresses


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Create a certificate for 127.0.0.1 that is valid for a day; returns the files of the certificate and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", *options, *names, *files], check=True, capture_output=True)
    return certificate, key
