"""`pawqueue models import`: networks of many kinds give the answers of Keras, and refusals are one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bundle.manifest import read_manifest
from tests.importer.importing import import_command
from tests.support.services import ROOT

pytestmark = pytest.mark.timeout(1200)  # TensorFlow is loaded several times

#: Made and imported in the fast tests; the others take minutes.
FAST = ("with-rescaling", "logits-by-values", "several-labels", "grey-without-channel", "channels-first", "own-layer")
FAST += ("keras2-keras-file", "h5-of-one-sigmoid")
SLOW = (
    *("any-size", "augmenting", "batch-normalization-first", "caffe", "flat-output", "grey-with-channel"),
    *("imagenet", "logits-by-loss", "mobilenet", "mobilenet-v3", "nested", "old-pipeline"),
    *("one-logit", "own-function", "saved-model", "several-sigmoids", "sixteen-bits", "transformer", "two-heads"),
    *("wide", "with-arithmetic", "with-normalization"),
    *("keras2-functions", "keras2-logits", "keras2-mobilenet", "keras2-own-function", "keras2-own-layer"),
    *("keras2-saved-model", "keras2-sixteen-bits", "keras2-teachable-folder", "keras2-teachable-zip"),
)
#: Kinds that Keras 3 cannot hold.
GRAPHS = {"channels-first", "own-layer", "own-function", "saved-model", "keras2-functions", "keras2-own-function"}
GRAPHS |= {"keras2-own-layer", "keras2-saved-model"}

Results = dict[str, dict[str, Any]]


def run(module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def import_all(folder: Path, *kinds: str) -> Results:
    lines = run("tests.importer.importing", str(folder), str(folder / "store"), *kinds).splitlines()
    return {found["kind"]: found for line in lines if line.startswith("{") and (found := json.loads(line))}


@pytest.fixture(scope="module")
def fast_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fast")


@pytest.fixture(scope="module")
def fast_results(fast_folder: Path) -> Results:
    return import_all(fast_folder, *FAST)


@pytest.fixture(scope="module")
def slow_results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return import_all(tmp_path_factory.mktemp("slow"), *SLOW)


def check(found: dict[str, Any], name: str) -> None:
    assert "error" not in found, found
    assert found["difference"] < 1e-4, found
    assert found["spread"] > 20 * found["difference"], "the outputs hardly depend on the image, so they prove nothing"
    assert max(found["proof"].values()) < 1e-4
    assert found["format"] == ("graph" if name in GRAPHS else "keras")


@pytest.mark.parametrize("name", FAST)
def test_the_worker_answers_like_keras(fast_results: Results, name: str) -> None:
    check(fast_results[name], name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_the_worker_answers_like_keras_for_more_kinds(slow_results: Results, name: str) -> None:
    check(slow_results[name], name)


def said(results: Results, name: str) -> str:
    return "\n".join(f"{topic}: {text}" for topic, text in results[name]["said"])


def test_what_is_assumed_is_said(fast_results: Results) -> None:
    assert "scale: in the network (Rescaling)" in said(fast_results, "with-rescaling")
    assert "resize: squash (default), bilinear (default)" in said(fast_results, "with-rescaling")
    assert "softmax was added (its values)" in said(fast_results, "logits-by-values")
    assert "each label with its own probability" in said(fast_results, "several-labels")
    assert "because it has custom code" in said(fast_results, "own-layer")
    assert "labels: 0 cat, 1 dog, 2 rabbit" in said(fast_results, "with-rescaling")


@pytest.mark.slow
def test_what_is_special_about_other_kinds_is_said(slow_results: Results) -> None:
    assert "scale: -1..1 (Teachable Machine)" in said(slow_results, "keras2-teachable-zip")
    assert "resize: crop (Teachable Machine)" in said(slow_results, "keras2-teachable-zip")
    assert "0 Cat, 1 Dog, 2 Rabbit" in said(slow_results, "keras2-teachable-folder")
    assert "for 16-bit floats; the bundle computes in float32" in said(slow_results, "sixteen-bits")
    assert "Rebuilt in Keras 3" in said(slow_results, "keras2-mobilenet")
    assert "The signature serving_default" in said(slow_results, "saved-model")


def model(folder: Path) -> Path:
    """A file with one sigmoid, without scale."""
    return folder / "h5-of-one-sigmoid" / "model.h5"


def refusal(folder: Path, *arguments: Any) -> str:
    """The sentence on standard error, after an import that must fail."""
    done = import_command(folder, *arguments)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list((folder / "state").rglob("manifest.json"))
    return done.stderr


@pytest.mark.slow
def test_a_network_is_imported_and_the_last_line_says_how_to_serve_it(
    fast_folder: Path, fast_results: Results, tmp_path: Path
) -> None:
    done = import_command(
        tmp_path, model(fast_folder), "--name", "pets", "--labels", "cat,dog", "--scale", "-1..1", "--resize", "crop"
    )
    assert done.returncode == 0, done.stderr
    assert "loaded in a fresh process, in float32" in done.stdout
    (folder,) = (tmp_path / "state" / "models" / "pets").iterdir()
    assert done.stdout.splitlines()[-1].endswith(f"pawqueue predict IMAGE --model pets@{folder.name}")
    manifest = read_manifest(folder)
    assert (manifest.labels, manifest.output, manifest.input.resize) == (["cat", "dog"], "sigmoid", "crop")
    assert manifest.version == folder.name
    assert folder.name.startswith("my-net-")
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.keras"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing.keras", "--name", "a"], "missing.keras does not exist"),
        (["pets.keras", "--name", "Big Cats"], "use lowercase letters"),
        (["pets.keras", "--name", "champion"], "reserved"),
        (["pets.keras", "--name", "a", "--size", "big"], "expected HEIGHTxWIDTH"),
        (["pets.keras", "--name", "a", "--scale", "2"], "--scale 2: unknown"),
        (["pets.keras", "--name", "a", "--labels", "missing.txt"], "neither a list of labels"),
        (["pets.keras", "--name", "a", "--check", "missing"], "--check: missing is not a folder"),
        (["hf://owner", "--name", "a"], "expected hf://OWNER/NAME"),
        (["hf://owner/name", "--name", "a"], "hf://owner/name"),
        (["..", "--name", "a"], "holds no single network"),
    ],
)
def test_a_refusal_is_one_sentence(tmp_path: Path, arguments: list[str], reason: str) -> None:
    (tmp_path / "pets.keras").write_text("opened last")
    assert reason in refusal(tmp_path, *arguments)


def test_make_up_names_the_command_for_a_keras_file(fast_folder: Path, fast_results: Results, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.local", "up"],
        cwd=ROOT,
        env=os.environ | {"PAWQUEUE_MODEL": str(model(fast_folder)), "PAWQUEUE_STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("pawqueue models import") == 1
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_more_refusals_are_one_sentence(fast_folder: Path, fast_results: Results, tmp_path: Path) -> None:
    both = [model(fast_folder), "--name", "a"]
    assert "--scale is needed" in refusal(tmp_path, *both, "--labels", "cat,dog")
    assert "the network needs 2" in refusal(tmp_path, *both, "--scale", "0..1")
    assert "3 labels, but the network needs 2" in refusal(tmp_path, *both, "--scale", "0..1", "--labels", "a,b,c")
    assert "only" in refusal(tmp_path, *both, "--scale", "0..1", "--labels", "a,b", "--size", "64x64")
    assert "has the outputs" in refusal(tmp_path, *both, "--scale", "0..1", "--labels", "a,b", "--output", "x")
    assert "for two labels" in refusal(tmp_path, *both, "--scale", "0..1", "--labels", "a,b", "--multi-label")


@pytest.mark.slow
def test_json_holds_the_result_and_a_second_import_changes_nothing(
    fast_folder: Path, fast_results: Results, tmp_path: Path
) -> None:
    arguments = (model(fast_folder), "--name", "pets", "--labels", "cat,dog", "--scale", "0..1", "--json")
    first = json.loads(import_command(tmp_path, *arguments).stdout)
    before = {path: path.stat().st_mtime_ns for path in Path(first["folder"]).iterdir()}
    second = json.loads(import_command(tmp_path, *arguments).stdout)
    assert second["folder"] == first["folder"]
    assert {path: path.stat().st_mtime_ns for path in Path(first["folder"]).iterdir()} == before
    assert (first["labels"], first["scale"], first["output"]) == (["cat", "dog"], "0..1", "sigmoid")
