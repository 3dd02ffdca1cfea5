"""The measurement on GPUs, as far as it works without one."""

import json
import os
from pathlib import Path

import pytest

from benchmarks.gpu import devices
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.table import markdown

TWO_GPUS = "NVIDIA H100 80GB HBM3, 550.54.15, 81559, 512\nNVIDIA T4, 550.54.15, 15360, 0\n"


def nvidia_smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program of this name first on the path."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_output_of_nvidia_smi_is_read_by_line() -> None:
    first, second = devices.parse_gpus(TWO_GPUS)
    assert first.text == "NVIDIA H100 80GB HBM3, 80 GiB, driver 550.54.15"
    assert (first.used_mib, second.used_mib) == (512, 0)


def test_gpus_are_those_that_nvidia_smi_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, "echo 'NVIDIA T4, 550.54.15, 15360, 3'", monkeypatch)
    assert devices.find_gpus() == [devices.Gpu("NVIDIA T4", "550.54.15", 15360, 3)]


@pytest.mark.parametrize("script", ["exit 9", "echo No devices were found", "true"])
def test_a_driver_without_gpus_is_reported_in_one_sentence(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nvidia_smi(tmp_path, script, monkeypatch)
    assert main(["--out", str(tmp_path / "gpu.json")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("No GPU found (nvidia-smi lists none): ")
    assert message.count("\n") == 1
    assert not (tmp_path / "gpu.json").exists()


def test_a_machine_without_a_driver_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("No GPU found (nvidia-smi is not installed): ")


def test_without_a_usable_backend_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "jax.py").write_text("raise ImportError('jax')")
    assert main(["--cpu", "--backends", "jax", "--out", str(tmp_path / "gpu.json")]) == 2
    assert "jax: not installed" in capsys.readouterr().err


def test_a_backend_that_sees_no_gpu_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "jax.py").write_text(
        "class Device:\n    platform = 'cpu'\ndef devices():\n    print('a warning')\n    return [Device()]"
    )
    (tmp_path / "torch.py").write_text("class cuda:\n    device_count = lambda: 1")
    usable, left_out = devices.usable_backends(["jax", "torch"], on_gpu=True)
    assert usable == ["torch"]
    assert left_out == {"jax": "this build cannot use the GPU"}


def test_the_table_names_the_gpu_and_what_could_not_be_measured() -> None:
    row = {
        "network": "resnet50",
        "backend": "jax",
        "bare_images_per_s": 1234.5,
        "ratios": {"32": [0.5, 0.7, 0.6], "128": [0.8]},
        "two_workers_ratio": 1.25,
        "one_worker_mib": 1500,
        "two_workers_mib": 2900,
    }
    found = {
        "gpus": ["A GPU"],
        "machine": {"processor": "A CPU", "cores": 16},
        "rows": [row],
        "left_out": {"torch": "x"},
    }
    text = markdown(json.loads(json.dumps(found)))
    assert text.startswith("A GPU; A CPU, 16 cores.\n")
    assert "| resnet50 | jax | 1234 | 0.60 (0.50 to 0.70) | 0.80 | 1.25 | 1,500 and 2,900 |" in text
    assert text.endswith("Not measured: torch (x).")
