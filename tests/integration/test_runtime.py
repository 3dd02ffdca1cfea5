"""The included model on real frameworks, each in its own process, because Keras cannot switch its backend later."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.services import ROOT

ON_A_BACKEND = """
import sys, json
from pathlib import Path
import numpy as np
from worker.runtime.keras import choose_backend, load_model
choose_backend(sys.argv[1], 1)
model = load_model(Path("models/cats-dogs"), "float32", 4, 1)
pixels = np.random.default_rng(0).integers(0, 255, (5, model.target.height, model.target.width, 3), dtype=np.uint8)
shapes = [model.predict(pixels[:3]).probabilities.shape, model.predict(pixels[:4]).probabilities.shape]
print(json.dumps([model.backend, *shapes]))
"""
ON_SOME_CORES = """
import json, sys, threading, time
from pathlib import Path
import numpy as np
from worker.runtime.keras import choose_backend, load_model
from worker.runtime.strategies import BUILDER_THREAD
choose_backend("tensorflow", int(sys.argv[1]))
model = load_model(Path("models/cats-dogs"), "float32", 4, int(sys.argv[1]))
for thread in threading.enumerate():
    if thread.name == BUILDER_THREAD:
        thread.join()
pixels = np.random.default_rng(0).integers(0, 255, (9, model.target.height, model.target.width, 3), dtype=np.uint8)
single = np.concatenate([model.predict(pixels[at : at + 1]).probabilities for at in range(len(pixels))])
began_s, used_s = time.perf_counter(), time.process_time()
for _ in range(10):
    batch = model.predict(pixels).probabilities
busy = (time.process_time() - used_s) / (time.perf_counter() - began_s)
print(json.dumps([float(np.abs(single - batch).max()), busy]))
"""
MEASURING = """
import json, os, sys, threading
from pathlib import Path
from structlog.testing import capture_logs
from worker.runtime.keras import choose_backend, load_model
from worker.runtime.strategies import BUILDER_THREAD
choose_backend("tensorflow", 2)
memory = Path(sys.argv[1])
def load(precision="float32"):
    with capture_logs() as lines:
        model = load_model(Path("models/cats-dogs"), precision, 4, 2, measure_s=0.5, memory=memory)
        for thread in threading.enumerate():
            if thread.name == BUILDER_THREAD:
                thread.join()
    (source,) = [line["source"] for line in lines if line["event"] == "Strategies chosen"]
    return source, {item.images: item.strategy for item in model.strategies}
first, again = load(), load()
(file,) = memory.iterdir()
file.write_text(file.read_text().replace('"strategy": "', '"strategy": "un'))
unknown = load()
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
other = load()
print(json.dumps([first, again, unknown[0], other[0]]))
"""

#: Tries to load bundles that would run code, or whose parts do not fit; prints why each is refused.
HOSTILE = """
import json, os, pickle, shutil, sys, zipfile
from pathlib import Path
import numpy as np
from worker.runtime.keras import choose_backend, load_model
choose_backend("tensorflow", 1)
import keras
from bundle.manifest import BundleError, sha256_of
folder = Path(sys.argv[1])
mark = f"touch {folder / 'mark'}"

class Code:
    def __reduce__(self):
        return os.system, (mark,)

def pickled(bundle, manifest):
    (bundle / "model.keras").write_bytes(pickle.dumps(Code()))

def pickled_prototypes(bundle, manifest):
    np.save(bundle / "prototypes.npy", np.array([Code()], dtype=object), allow_pickle=True)

def lambda_layer(bundle, manifest):
    image = keras.Input((192, 192, 3))
    label = keras.layers.Lambda(lambda x: __import__("os").system(mark) or x[:, 0, 0, :1])(image)
    keras.Model(image, label).save(bundle / "model.keras")
    (folder / "mark").unlink(missing_ok=True)

def foreign_class(bundle, manifest):
    config = {"module": "os", "class_name": "system", "config": {"command": mark}, "registered_name": None}
    with zipfile.ZipFile("models/cats-dogs/model.keras") as whole, zipfile.ZipFile(bundle / "model.keras", "w") as copy:
        for name in whole.namelist():
            copy.writestr(name, json.dumps(config) if name == "config.json" else whole.read(name))

def other_input(bundle, manifest):
    manifest["input"] |= {"height": 4096, "width": 4096}

for change in (pickled, pickled_prototypes, lambda_layer, foreign_class, other_input):
    bundle = Path(shutil.copytree("models/cats-dogs", folder / change.__name__))
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(bundle, manifest)
    manifest["sha256"] = {name: sha256_of(bundle / name) for name in manifest["sha256"]}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    try:
        load_model(bundle, "float32", 4, 1)
    except BundleError as error:
        print("refused:", error)
"""


def run(program: str, argument: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program, argument]
    return subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("cores", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_split_batches_predict_like_single_images_and_use_only_the_allowed_cores(cores: int) -> None:
    done = run(ON_SOME_CORES, str(cores))
    assert done.returncode == 0, done.stderr
    assert "cannot be used" not in done.stdout + done.stderr
    distance, busy_cores = json.loads(done.stdout.splitlines()[-1])
    assert distance < 1e-5
    assert busy_cores < cores + 0.3


@pytest.mark.slow
def test_a_bundle_is_measured_once_for_each_processor_and_again_if_its_file_is_damaged(tmp_path: Path) -> None:
    done = run(MEASURING, str(tmp_path))
    assert done.returncode == 0, done.stderr
    first, again, unknown, other = json.loads(done.stdout.splitlines()[-1])
    assert first[0] == "measured"
    assert list(first[1]) == ["1", "4"]
    assert again == ["remembered", first[1]]
    assert (unknown, other) == ("measured", "measured")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_bundle_gives_the_same_predictions_on_every_backend_as_at_export(backend: str) -> None:
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed; run `pip install {backend}` and try again")
    done = run(ON_A_BACKEND, backend)
    assert done.returncode == 0, done.stderr
    used, *shapes = json.loads(done.stdout.splitlines()[-1])
    assert (used, shapes) == (backend, [[3, 2], [4, 2]])


@pytest.mark.slow
def test_the_error_for_a_missing_backend_names_it() -> None:
    if importlib.util.find_spec("torch"):
        pytest.skip("torch is installed here")
    done = run(ON_A_BACKEND, "torch")
    assert "The Keras backend torch is not installed" in done.stderr


@pytest.mark.slow
def test_a_bundle_runs_no_code_and_the_error_says_what_does_not_fit(tmp_path: Path) -> None:
    done = run(HOSTILE, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(re.findall("^refused: ", done.stdout, re.MULTILINE)) == 5, done.stdout
    assert "prototypes of cats-dogs" in done.stdout
    assert "inputs of shape" in done.stdout
    assert not (tmp_path / "mark").exists()
