"""Versions that crash workers are found, also by workers that start later."""

import subprocess
import sys
from pathlib import Path

import pytest

from contract.job import ModelRef
from worker.runtime.crashes import CrashRecorder

BIRDS, CARS = ModelRef("birds", "1"), ModelRef("cars", "1")
NOW_S = 1000.0
#: Dies while it loads or predicts; the argument names the method.
_DIES = """
import os, sys
from pathlib import Path
from contract.job import ModelRef
from worker.runtime.crashes import CrashRecorder
recorder = CrashRecorder(Path(sys.argv[1]))
with recorder.predicting(ModelRef("cars", "1")):
    pass
shadow = (7,) if "shadow" in sys.argv[2] else ()
with recorder.loading(ModelRef("cars", "1")) if shadow else recorder.predicting(ModelRef("cars", "1")):
    with getattr(recorder, sys.argv[2])(ModelRef("birds", "1"), *shadow):
        if sys.argv[2] == "loading_shadow":
            with recorder.shadowing(ModelRef("cars", "2"), 3):  # of another model
                pass
        os.kill(os.getpid(), 9)
"""


def crash(folder: Path, method: str) -> None:
    assert subprocess.run([sys.executable, "-c", _DIES, str(folder), method], check=False).returncode == -9


def test_a_version_that_crashes_workers_is_paused_until_it_predicts_a_batch(tmp_path: Path) -> None:
    first, second = (CrashRecorder(tmp_path, lambda: NOW_S) for _ in range(2))
    crash(tmp_path, "loading")
    first.refresh()
    second.refresh()
    assert (first.crashes(BIRDS).in_a_row, first.crashes(BIRDS).pause_end_s) == (1, 0)
    crash(tmp_path, "predicting")
    second.refresh()
    first.refresh()
    assert first.crashes(BIRDS) == second.crashes(BIRDS) == (2, NOW_S)
    assert first.crashes(BIRDS).pause_end_s == NOW_S + 10
    assert first.crashes(CARS).in_a_row == 0
    with second.predicting(BIRDS):
        pass
    first.refresh()
    assert first.crashes(BIRDS).in_a_row == second.crashes(BIRDS).in_a_row == 0


@pytest.mark.parametrize("method", ["loading_shadow", "shadowing"])
def test_a_shadow_is_to_blame_for_a_crash_and_no_other_version(tmp_path: Path, method: str) -> None:
    crash(tmp_path, method)
    recorder = CrashRecorder(tmp_path)
    recorder.refresh()
    assert recorder.has_crashed(BIRDS, 7)
    assert not recorder.has_crashed(BIRDS, 8)
    assert recorder.crashes(BIRDS).in_a_row == recorder.crashes(CARS).in_a_row == 0
    recorder.forget(BIRDS, 7)
    other = CrashRecorder(tmp_path)
    other.refresh()
    assert not recorder.has_crashed(BIRDS, 7)
    assert not other.has_crashed(BIRDS, 7)


def test_the_pause_grows_with_each_crash_up_to_ten_minutes(tmp_path: Path) -> None:
    (tmp_path / "counts.json").write_text('{"birds@1": [5, 1000], "cars@1": [1000000, 1000]}')
    recorder = CrashRecorder(tmp_path)
    recorder.refresh()
    assert recorder.crashes(BIRDS).pause_end_s == NOW_S + 80
    assert recorder.crashes(CARS).pause_end_s == NOW_S + 600


def test_a_worker_that_stops_while_it_loads_a_version_is_no_crash(tmp_path: Path) -> None:
    stopped, other = CrashRecorder(tmp_path), CrashRecorder(tmp_path)
    with stopped.loading(BIRDS):
        other.refresh()  # it is alive
        stopped.close()
    other.refresh()
    assert other.crashes(BIRDS).in_a_row == 0


def test_a_folder_that_cannot_be_written_does_not_stop_a_worker(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    recorder = CrashRecorder(tmp_path / "file" / "crashes")
    with recorder.loading(BIRDS), recorder.predicting(BIRDS):
        recorder.refresh()
    assert recorder.crashes(BIRDS).in_a_row == 0
