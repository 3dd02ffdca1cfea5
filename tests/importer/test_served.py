"""Imported models on the real services, and what an import finds out with labeled images."""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.importer.importing import environ_in, import_command
from tests.support.images import draw
from tests.support.services import ROOT, running_stack, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PHOTOS = ROOT / "examples" / "photos"
#: The old pipeline ignored the orientation that a camera stores.
NAMES = sorted(path.name for path in PHOTOS.iterdir() if path.name != "cat-turned.jpg")

OLD_PIPELINE = """
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
from keras import layers
from PIL import Image
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((224, 224, 3))])
for filters in (32, 64, 128):
    model.add(layers.Conv2D(filters, 3, activation="relu"))
    model.add(layers.MaxPooling2D(2))
for layer in (layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dropout(0.5)):
    model.add(layer)
model.add(layers.Dense(1, activation="sigmoid"))
model.layers[-1].kernel.assign(20 * model.layers[-1].kernel)
model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
model.save(sys.argv[1])
answers = {}
for path in sys.argv[2:]:
    image = Image.open(path).convert("RGB").resize((224, 224))
    pixels = np.array(image, np.float32)[None] / 255.0
    answers[os.path.basename(path)] = float(model.predict(pixels, verbose=0)[0, 0])
print(json.dumps(answers))
"""

BRIGHTNESS = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
from keras import layers
inputs = keras.Input((16, 16, 3))
model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling2D()(inputs)))
model.set_weights([np.full((3, 1), 4.0), np.zeros(1)])
model.save(sys.argv[1])
"""

#: Runs Python with these arguments. The interrupt signal would be ignored if the tests run in the background.
INTERRUPTIBLE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""

FILES = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
class Reads(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32, name="pixels")])
    def __call__(self, pixels):
        shift = tf.strings.to_number(tf.io.read_file(sys.argv[2]))
        return {"answers": tf.nn.softmax(tf.reduce_mean(pixels, (1, 2)) / 255 + shift)}
module = Reads()
tf.saved_model.save(module, sys.argv[1], signatures={"serving_default": module.__call__})
"""


def run_program(program: str, *arguments: Any) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_file_of_the_old_pipeline_gives_its_answers(tmp_path: Path) -> None:
    expected = json.loads(run_program(OLD_PIPELINE, tmp_path / "old.h5", *(PHOTOS / name for name in NAMES)))
    assert max(expected.values()) - min(expected.values()) > 0.1
    options = ("--labels", "cat,dog", "--scale", "0..1", "--filter", "bicubic", "--json")
    done = import_command(tmp_path, tmp_path / "old.h5", "--name", "old", *options)
    assert done.returncode == 0, done.stderr
    with running_stack(tmp_path, model=json.loads(done.stdout)["folder"]) as stack:
        for name in NAMES:
            kind = f"image/{name.rpartition('.')[2].replace('jpg', 'jpeg')}"
            files = {"file": (name, (PHOTOS / name).read_bytes(), kind)}
            answer = httpx.post(f"{stack.url}/predict", files=files, timeout=60).json()
            assert answer["dog_probability"] == pytest.approx(expected[name], abs=0.001), name


def test_a_running_worker_serves_what_is_imported_to_the_store_at_a_url(tmp_path: Path) -> None:
    run_program(BRIGHTNESS, tmp_path / "net.keras")
    url = f"local://{tmp_path / 'store'}"
    with running_stack(tmp_path / "service", model_store_url=url, measure_s=0) as stack:
        options = ("--name", "light", "--labels", "dark,bright", "--scale", "-1..1")
        done = import_command(tmp_path, tmp_path / "net.keras", *options, PAWQUEUE_MODEL_STORE_URL=url)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: httpx.get(f"{stack.url}/v1/models/light").is_success, "the model to be registered")
        query, headers = {"model": "light"}, {"Prefer": "wait=50"}
        job = httpx.post(f"{stack.url}/v1/jobs", content=draw(), params=query, headers=headers, timeout=60).json()
    assert set(job["prediction"]["probabilities"]) == {"dark", "bright"}
    (copy,) = (tmp_path / "service" / "state" / "cache" / "models" / "light").iterdir()
    assert (copy / "manifest.json").is_file()
    assert not (tmp_path / "state").exists()


def write_images(folder: Path) -> Path:
    """Dark and bright images, in folders with these names."""
    for name, low in (("dark", 20), ("bright", 160)):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            noise = np.random.default_rng(number).integers(low, low + 60, (40, 30, 3), np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(noise).save(buffer, "PNG")
            (folder / name / f"{number}.png").write_bytes(buffer.getvalue())
    (folder / "dark" / "notes.txt").write_text("no image")
    return folder


def test_labeled_images_show_which_options_are_right(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    run_program(BRIGHTNESS, tmp_path / "net.keras")
    right = ("--name", "a", "--check", images)
    done = import_command(tmp_path, tmp_path / "net.keras", *right, "--labels", "dark,bright", "--scale", "-1..1")
    assert done.returncode == 0, done.stderr
    assert "check    100.0 % of 16 images are right" in done.stdout
    assert "1 files are no readable images" in done.stdout

    done = import_command(tmp_path, tmp_path / "net.keras", *right, "--labels", "dark,bright", "--scale", "0..1")
    assert "check    50.0 % of 16 images are right" in done.stdout
    assert "50 % as given; 100 % with --scale -1..1" in done.stdout

    done = import_command(tmp_path, tmp_path / "net.keras", *right, "--labels", "bright,dark", "--scale", "-1..1")
    assert "0 % as given; 100 % with --labels dark,bright" in done.stdout

    (images / "other").mkdir()
    options = ("--name", "b", "--check", images, "--labels", "dark,bright", "--scale", "-1..1")
    done = import_command(tmp_path, tmp_path / "net.keras", *options)
    assert done.returncode == 2
    assert "the subfolder 'other' is not one of the labels" in done.stderr
    assert [path.name for path in (tmp_path / "state" / "models").iterdir()] == ["a"]


def test_an_interrupted_import_leaves_nothing(tmp_path: Path) -> None:
    run_program(BRIGHTNESS, tmp_path / "net.keras")
    (tmp_path / "tmp").mkdir()
    options = ("--name", "a", "--labels", "dark,bright", "--scale", "0..1")
    command = [sys.executable, "-c", INTERRUPTIBLE, "-m", "pawqueue", "models", "import", str(tmp_path / "net.keras")]
    command += options
    environ = environ_in(tmp_path) | {"TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert any(line.startswith("resize") for line in process.stdout)  # the bundle is written next
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert not list((tmp_path / "tmp").iterdir())
    assert not [path for path in (tmp_path / "state").rglob("*") if path.is_file()]


def test_a_graph_that_reads_files_needs_trust_twice(tmp_path: Path) -> None:
    number = tmp_path / "number.txt"
    number.write_text("0.5")
    run_program(FILES, tmp_path / "net", number)
    options = ("--name", "reads", "--labels", "a,b,c", "--scale", "none")
    done = import_command(tmp_path, tmp_path / "net", *options)
    assert done.returncode == 2
    assert "operations that may do more than compute (ReadFile" in done.stderr
    assert done.stderr.count("\n") == 1

    done = import_command(tmp_path, tmp_path / "net", *options, "--trust-code", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["unsafe_operations"] == ["ReadFile", "StringToNumber"]
    program = """
import sys
from pathlib import Path
from worker.runtime.keras import choose_backend, load_model
choose_backend("tensorflow", 1)
load_model(Path(sys.argv[1]), "float32", 2, 1, trust_code=sys.argv[2] == "1")
"""
    command = [sys.executable, "-c", program, result["folder"]]
    trusted = subprocess.run([*command, "1"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert trusted.returncode == 0, trusted.stderr
    refused = subprocess.run([*command, "0"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "set PAWQUEUE_TRUST_BUNDLE_CODE=true" in refused.stderr


def test_an_import_runs_no_code_from_hostile_files(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    program = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, tf_keras
import tensorflow as tf
folder, marker = sys.argv[1:]
code = "(open(%r, 'w').close(), x)[1]" % marker
for library, name in ((keras, "keras3"), (tf_keras, "keras2")):
    make = eval("lambda x: " + code)
    inputs = library.Input((16, 16, 3))
    x = library.layers.Lambda(make, name="evil", output_shape=(16, 16, 3))(inputs)
    x = library.layers.Dense(2, activation="softmax")(library.layers.GlobalAveragePooling2D()(x))
    model = library.Model(inputs, x)
    for suffix in ("keras", "h5"):
        model.save(f"{folder}/{name}.{suffix}")
class Writes(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32, name="pixels")])
    def __call__(self, pixels):
        with tf.control_dependencies([tf.io.write_file(marker, "x")]):
            return {"answers": tf.nn.softmax(tf.reduce_mean(pixels, (1, 2)))}
module = Writes()
tf.saved_model.save(module, f"{folder}/graph", signatures={"serving_default": module.__call__})
os.unlink(marker)
"""
    run_program(program, tmp_path, marker)
    for name in ("keras3.keras", "keras3.h5", "keras2.keras", "keras2.h5", "graph"):
        done = import_command(tmp_path, tmp_path / name, "--name", "a", "--labels", "a,b", "--scale", "0..1")
        assert done.returncode == 2, name
        assert done.stderr.count("\n") == 1, done.stderr
        assert ("operations that may do more than compute" if name == "graph" else "'evil'") in done.stderr
        assert not marker.exists(), name
