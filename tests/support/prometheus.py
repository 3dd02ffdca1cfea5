"""A real Prometheus that scrapes the gateway and the workers of a stack."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from tests.support.services import Stack, free_port, responds, running, wait_until


def find_prometheus() -> str:
    """The path of Prometheus. Without Prometheus the test is skipped; in CI it fails."""
    found = shutil.which("prometheus")
    if found is None:
        missing = "no prometheus on the PATH: install it (apt-get install prometheus)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@contextmanager
def running_prometheus(stack: Stack, folder: Path, groups: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Start Prometheus with groups of rules, evaluated every second like the scrapes; yields its URL."""
    client = connect(stack.redis_url)
    workers = [httpx.URL(beat.metrics_address).netloc.decode() for beat in Ledger(client).workers()]
    client.close()
    jobs = {"pawqueue-gateway": [httpx.URL(stack.metrics_url).netloc.decode()], "pawqueue-worker": workers}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": job, "static_configs": [{"targets": at}]} for job, at in jobs.items()],
    }
    (folder / "rules.yml").write_text(json.dumps({"groups": groups}))  # JSON is YAML
    (folder / "prometheus.yml").write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command = [find_prometheus(), *options, f"--web.listen-address={address}"]
    with running("prometheus", command, folder):
        wait_until(lambda: responds(f"http://{address}/-/ready"), "Prometheus to be ready")
        yield f"http://{address}"
