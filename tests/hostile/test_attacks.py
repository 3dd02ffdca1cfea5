"""Attacks in their short form, and how their answers are judged."""

from pathlib import Path
from typing import Any

import pytest

from tests.hostile.attacks import ATTACKS, SHORT, Answer
from tests.hostile.run import as_table, failed_checks, run
from tests.hostile.target import running_processes

#: `tests/api/test_hostile.py` sends the same requests.
_TESTED_ELSEWHERE = {"hostile_uploads", "raw_requests"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_services_withstand_the_attacks_and_an_honest_client_loses_nothing(tmp_path: Path) -> None:
    chosen = {name: attack for name, attack in ATTACKS.items() if name not in _TESTED_ELSEWHERE}
    with running_processes(tmp_path) as target:
        report = run(target, SHORT, chosen)
    assert not failed_checks(report, judge_times=False), as_table(report)
    assert report["honest"]["images"] > 0


@pytest.mark.parametrize(
    ("got", "may_be_accepted", "verdict"),
    [
        ("405", False, "refused"),
        ("503", False, "refused"),
        ("closed", False, "refused"),
        ("failed", False, "refused"),
        ("held", False, "held"),
        ("202", True, "accepted"),
        ("succeeded", True, "accepted"),
        ("202", False, "broken"),
        ("302", False, "broken"),
        ("500", True, "broken"),
        ("502", True, "broken"),
        ("response of 90,000,000 bytes", True, "broken"),
    ],
)
def test_an_answer_is_judged_by_its_status(got: str, may_be_accepted: bool, verdict: str) -> None:
    assert Answer("request", got, may_be_accepted).verdict == verdict


def report_of(**changes: Any) -> dict[str, Any]:
    row = {"problems": {}, "dead": [], "stall_ms": {"gateway": 10, "dashboard": 10, "machine": 300}}
    return {
        "attacks": {"uploads": row | {name: changes[name] for name in changes.keys() & row.keys()}},
        "peak_mb": {"gateway": changes.get("gateway_mb", 100), "worker": 900},
        "honest": {"lost": changes.get("lost", 0), "lost_as": {"failed": 1}},
    }


def test_a_run_without_harm_has_no_failed_checks() -> None:
    assert failed_checks(report_of()) == []


def test_a_delay_of_the_machine_is_not_a_stall_of_a_service() -> None:
    assert failed_checks(report_of(stall_ms={"gateway": 1300, "machine": 300})) == []


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"problems": {"bomb: 500": 1}}, "uploads: bomb: 500"),
        ({"dead": ["process 7"]}, "uploads: process 7 died"),
        ({"stall_ms": {"gateway": 1301, "machine": 300}}, "the gateway did not respond to a health check for 1,301 ms"),
        ({"gateway_mb": 600}, "the gateway used 600 MB; its container has 512 MiB"),
        ({"lost": 1}, "images of the honest client were lost: {'failed': 1}"),
    ],
)
def test_each_kind_of_harm_fails_a_check(changes: dict[str, Any], check: str) -> None:
    (failed,) = failed_checks(report_of(**changes))
    assert check in failed
