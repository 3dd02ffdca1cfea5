"""schemathesis sends requests generated from the OpenAPI document and checks the responses against it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from contract.access import Scope
from tests.support.services import Gateway

#: Random bytes match the schema of an image, but the gateway must reject them.
_EXCLUDED_CHECK = "positive_data_acceptance"
#: A form with too many parts is rejected with 413. After DELETE, a job or submission is canceled but still exists.
_CONFIG = """
[auth.openapi]
bearer = {{ bearer = "{key}" }}
api_key = {{ api_key = "{key}" }}

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429"]

[[operations]]
include-path-regex = "^/v1/(jobs|submissions)/"
checks.use_after_free.enabled = false
"""


def run(gateway: Gateway, folder: Path, *options: str) -> int:
    """Run schemathesis, which must find no failure; returns the number of generated requests."""
    scopes = [word for scope in Scope for word in ("--scope", str(scope))]
    key = gateway.make_key(*scopes, "--rate-limit", "999999 per second")
    config = folder / "schemathesis.toml"
    config.write_text(_CONFIG.format(key=key))
    program = [Path(sys.executable).parent / "schemathesis", "--config-file", config]
    command = [*program, "run", f"{gateway.url}/openapi.json", "--no-color", "--continue-on-failure", *options]
    command += ["--request-timeout", "60"]  # for busy machines
    done = subprocess.run(
        [*command, "--exclude-checks", _EXCLUDED_CHECK],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    (generated,) = re.findall(r"(\d+) generated", done.stdout)
    return int(generated)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_responses_conform_to_the_openapi_document(short_waits: Gateway, tmp_path: Path) -> None:
    generated = run(short_waits, tmp_path, "--seed", "7", "--max-examples", "1", "--phases", "coverage,fuzzing")
    assert generated >= 200


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_thousands_of_responses_conform_to_the_openapi_document(short_waits: Gateway, tmp_path: Path) -> None:
    generated = run(short_waits, tmp_path, "--max-examples", "900")
    print(f"{generated} requests")
    assert generated >= 5000
