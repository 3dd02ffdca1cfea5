"""A rolling upgrade from the previous commit to this one, under load."""

import subprocess
from pathlib import Path

import pytest

from tests.deploy.upgrade import upgrade_from
from tests.support.services import ROOT


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_clients_lose_no_job_and_see_no_error_during_an_upgrade(tmp_path: Path) -> None:
    found = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--verify", "HEAD~1"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip("the previous commit is not in this checkout: run `git fetch --unshallow`")
    report = upgrade_from(found.stdout.strip(), tmp_path)
    assert not report.faults
    assert {status for status, _ in report.jobs.values()} == {"succeeded"}
    assert len(report.jobs) > 50
    assert set(report.exits.values()) == {0}
