"""The smoke test, the performance script and the doctor, with and without a running service."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.images import draw
from tests.support.services import ROOT, Stack, free_port


def script(name: str, *arguments: object, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, ROOT / "deploy" / name, *(str(argument) for argument in arguments)],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_smoke_test_gets_a_prediction_from_both_apis(stack: Stack) -> None:
    done = script("smoke_test.py", "--url", stack.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["ok", "/v1/status:"],
        ["ok", "/health:"],
        ["ok", "/predict:"],
        ["ok", "/v1/jobs:"],
        ["ok", "rejection:"],
    ]


def test_the_smoke_test_fails_without_a_service() -> None:
    done = script("smoke_test.py", "--url", f"http://127.0.0.1:{free_port()}", "--timeout", 0.2)
    assert (done.returncode, done.stdout[:4]) == (1, "FAIL")
    assert "Traceback" not in done.stderr


def test_performance_is_measured_and_reported(stack: Stack, tmp_path: Path) -> None:
    for folder, color in (("cats", (200, 30, 30)), ("dogs", (30, 30, 200))):
        (tmp_path / folder).mkdir()
        for number in range(4):
            (tmp_path / folder / f"{number}.png").write_bytes(draw((60, 50), (*color[:2], number)))
    (tmp_path / "dogs" / "text.jpg").write_text("not an image")
    arguments = ("--test-dir", tmp_path, "--max-samples", 9, "--out", tmp_path / "out")
    done = script("performance_tracking.py", "--api-url", stack.url, *arguments)
    assert done.returncode == 1, done.stderr  # one image was rejected
    report = json.loads((tmp_path / "out" / "performance.json").read_text())
    assert (report["samples"], report["pictures"], report["errors"]) == (9, 8, {"HTTP 400": 1})
    matrix = report["confusion_matrix"]
    assert report["accuracy"] == (matrix[0][0] + matrix[1][1]) / 8
    assert 0 < report["latency_ms"]["min"] <= report["latency_ms"]["p50"] <= report["latency_ms"]["max"]
    assert {"precision", "recall", "f1", "pictures"} == set(report["by_label"]["cat"])
    with Image.open(tmp_path / "out" / "performance.png") as plot:
        assert plot.size == (1430, 440)
    assert "Accuracy" in done.stdout


@pytest.mark.parametrize("arguments", [["--test-dir", "docs"], ["--test-dir", "docs", "--max-samples", "0"]])
def test_performance_without_images_is_a_usage_error(arguments: list[str]) -> None:
    done = script("performance_tracking.py", "--api-url", "http://127.0.0.1:9", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_the_doctor_reports_no_problem_on_a_running_stack(stack: Stack) -> None:
    environ = {**os.environ, **stack.environ}
    done = subprocess.run(
        [sys.executable, "-m", "pawqueue", "doctor", "--json"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    findings = {finding["check"]: finding["level"] for finding in json.loads(done.stdout)}
    assert {findings[name] for name in ("Redis", "gateway", "queue", "worker", "access", "settings")} == {"ok"}, done
