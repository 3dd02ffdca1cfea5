"""TensorFlow's own call of a real network: on one thread each, its parts answer as the whole does."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.services import ROOT

PROGRAM = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from worker.runtime import choose_backend, load_model
cores = int(sys.argv[1])
choose_backend("tensorflow", cores)
call = load_model(Path("models/cats-dogs"), "float32", 4, cores)._call
end_s = time.monotonic() + 60
while call.narrow is None and time.monotonic() < end_s:
    time.sleep(0.01)
pixels = np.random.default_rng(0).integers(0, 255, (9, 160, 160, 3), dtype=np.uint8)
began_s, used_s = time.perf_counter(), time.process_time()
for _ in range(10):
    whole = call._wide(pixels)
busy = (time.process_time() - used_s) / (time.perf_counter() - began_s)
distance = float(np.abs(whole - call(pixels)).max())
print(json.dumps([call.narrow is not None, distance, busy]))
"""


@pytest.mark.parametrize("cores", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_parts_answer_as_the_whole_on_no_more_cores_than_were_given(cores: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(cores)]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    is_narrow, distance, busy_cores = json.loads(done.stdout.splitlines()[-1])
    assert is_narrow
    assert distance < 1e-5
    assert busy_cores < cores + 0.3
