"""Files are opened without trusting them: whatever is not configuration or numbers is refused, and nothing is run."""

import json
import os
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from bundle.manifest import Imported, InputSpec
from importer.keras_config import for_keras3, foreign_parts, in_float32
from importer.keras_file import open_keras_file
from importer.outputs import Meaning
from importer.request import ImportFailedError, Request
from importer.scale import SCALES
from importer.source import find

pytestmark = pytest.mark.timeout(600)  # Keras is loaded

CONFIG: dict[str, Any] = {"class_name": "Sequential", "config": {"layers": []}}


def write_h5(path: Path, config: Any = CONFIG) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.create_group("model_weights").create_dataset("kernel", data=np.zeros(3, np.float32))
    return path


def write_keras(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def keras_members(tmp_path: Path, **members: bytes) -> dict[str, bytes]:
    weights = write_h5(tmp_path / "weights").read_bytes()
    return {"config.json": json.dumps(CONFIG).encode(), "model.weights.h5": weights} | members


def refused(path: Path, tmp_path: Path, reason: str) -> None:
    with pytest.raises(ImportFailedError, match=reason) as caught:
        open_keras_file(path, path.name, tmp_path)
    assert "\n" not in str(caught.value)


def test_the_parts_of_a_keras_file_in_a_folder_have_the_same_checksum_at_any_date(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    found = []
    for at_s in (1_000_000_000, 1_500_000_000):
        for name, content in keras_members(tmp_path).items():
            (tmp_path / "net" / name).write_bytes(content)
            os.utime(tmp_path / "net" / name, (at_s, at_s))
        found.append(find(Request(str(tmp_path / "net"), "a", "store"), tmp_path).source.sha256())
    assert found[0] == found[1]


def test_each_output_and_signature_of_a_file_is_a_version_of_its_own() -> None:
    from importer.writing import Plan

    def version(**options: Any) -> str:
        return Plan(
            request=Request("a.keras", "a", "store", **options),
            network=SimpleNamespace(name="net", form="16 x 16"),  # type: ignore[arg-type]
            scale=SCALES["none"],
            meaning=Meaning("softmax", "none", 2, ""),
            labels=["cat", "dog"],
            input=InputSpec(height=16, width=16),
            imported=Imported(kind="keras 3", file="a.keras", sha256="0", scale="none"),
        ).version

    options: list[dict[str, str]] = [{}, {"output": "head"}, {"output": "other"}, {"signature": "head"}]
    assert len({version(**each) for each in options}) == 4


def test_a_copy_contains_nothing_but_the_checked_configuration_and_numbers(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "a.keras", keras_members(tmp_path) | {"assets/x": b"x", "evil.py": b"x"})
    copy = open_keras_file(path, "a.keras", tmp_path).copy_with({"checked": True}, tmp_path)
    with zipfile.ZipFile(copy) as archive:
        assert sorted(archive.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]
        assert json.loads(archive.read("config.json")) == {"checked": True}
    with h5py.File(write_h5(tmp_path / "b.h5"), "a") as file:
        file["other"] = h5py.ExternalLink("/etc/passwd", "/")
    copy = open_keras_file(tmp_path / "b.h5", "b.h5", tmp_path).copy_with({"checked": True}, tmp_path)
    with h5py.File(copy) as file:
        assert list(file) == ["model_weights"]
        assert json.loads(file.attrs["model_config"]) == {"checked": True}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "C:\\x", "..\\x"])
def test_a_zip_with_a_path_outside_of_it_is_refused(tmp_path: Path, name: str) -> None:
    path = write_keras(tmp_path / "a.keras", keras_members(tmp_path) | {name: b"x"})
    refused(path, tmp_path, "points outside")
    teachable = write_keras(tmp_path / "a.zip", {name: b"x", "keras_model.h5": b"x"})
    with pytest.raises(ImportFailedError, match="points outside"):
        find(Request(str(teachable), "a", "store"), tmp_path)


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"1234" * 10)
    for number, make in enumerate(
        (
            lambda group: group.__setitem__("x", h5py.ExternalLink(str(secret), "/")),
            lambda group: group.__setitem__("x", h5py.SoftLink("/elsewhere")),
            lambda group: group.create_dataset("x", (10,), "f4", external=[(str(secret), 0, 40)]),
            lambda group: group.create_virtual_dataset("x", _virtual(secret)),
        )
    ):
        path = write_h5(tmp_path / f"{number}.h5")
        with h5py.File(path, "a") as file:
            make(file["model_weights"].create_group("layer"))
        refused(path, tmp_path, "do not use this file")


def _virtual(source: Path) -> "h5py.VirtualLayout":
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource(str(source), "y", (10,))
    return layout


def test_weights_that_are_no_numbers_or_too_large_are_refused(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["model_weights"].create_dataset("x", data=["text"], dtype=h5py.string_dtype())
    refused(path, tmp_path, "not an array of numbers")
    path = write_h5(tmp_path / "b.h5")
    with h5py.File(path, "a") as file:
        file["model_weights"].create_dataset("x", (1 << 40,), "f4", chunks=(1 << 16,), compression="gzip")
    refused(path, tmp_path, "more than 8 GB")


def test_damaged_and_other_files_are_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.keras").write_text("hello")
    refused(tmp_path / "text.keras", tmp_path, "neither a .keras file nor an HDF5 file")
    whole = write_h5(tmp_path / "whole.h5").read_bytes()
    (tmp_path / "half.h5").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "half.h5", tmp_path, "damaged or incomplete")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.create_group("layers")
    refused(tmp_path / "weights.h5", tmp_path, "weights without the network")
    refused(write_keras(tmp_path / "empty.keras", {"x": b""}), tmp_path, "not a .keras file")
    members = keras_members(tmp_path) | {"config.json": b"{"}
    refused(write_keras(tmp_path / "json.keras", members), tmp_path, "not JSON")
    del members["model.weights.h5"]
    refused(write_keras(tmp_path / "half.keras", members), tmp_path, "holds no model.weights.h5")


def layer(kind: str, module: str | None = None, **config: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"class_name": kind, "config": {"name": "mine"} | config}
    return found | {"module": module, "registered_name": None} if module else found


@pytest.mark.parametrize(
    "part",
    [
        layer("Lambda"),
        layer("Lambda", "keras.layers"),
        layer("TFSMLayer", "keras.layers", filepath="/tmp/x"),
        layer("StringLookup", "keras.layers", vocabulary="/etc/passwd"),
        layer("TorchModuleWrapper", "keras.layers"),
        layer("system", "os"),
        layer("Popen", "subprocess"),
        layer("Dense", "my_module"),
        layer("get_file", "keras.utils"),
        layer("Operation", "keras.src.ops.operation"),
        layer("Map", "keras.src.ops.core"),
        layer("Functional", "keras.src.models.functional", layers=[layer("Lambda")]),
        layer("Dense", "keras.layers", activation={"class_name": "function", "module": "os", "config": "system"}),
        layer("Dense", "keras.layers", activation={"class_name": "function", "module": "builtins", "config": "eval"}),
        layer("Dense", "keras.layers", kernel_initializer={"class_name": "__lambda__", "config": {"value": "x"}}),
        layer("Dense", "keras.layers") | {"registered_name": "mine>Dense"},
        {"class_name": ["Dense"], "config": {}},
        {"class_name": "__typespec__", "config": [], "spec_name": "x", "module": "os", "registered_name": None},
        layer("TFOpLambda", function="io.write_file"),
    ],
)
def test_what_could_run_code_or_read_files_is_found(part: dict[str, Any]) -> None:
    config = {"class_name": "Sequential", "config": {"name": "net", "layers": [layer("Dense", "keras.layers"), part]}}
    assert len(foreign_parts(config, keras2=False)) >= 1
    if part["class_name"] not in ("TFSMLayer", "__typespec__"):
        assert len(foreign_parts(config, keras2=True)) >= 1


def test_functions_of_tensorflow_that_only_compute_are_allowed_in_files_of_keras_2() -> None:
    assert foreign_parts(layer("TFOpLambda", function="math.multiply"), keras2=True) == []
    assert foreign_parts(layer("TFOpLambda", function="math.multiply"), keras2=False) != []


def test_names_the_layer_and_its_class() -> None:
    (found,) = foreign_parts(
        {"class_name": "Sequential", "config": {"layers": [layer("Attend", "mine")]}}, keras2=False
    )
    assert (found.layer, found.kind, found.is_code) == ("mine", "Attend", False)


def test_sixteen_bit_types_become_float32() -> None:
    policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}
    config = {"layers": [{"dtype": policy}, {"dtype": "bfloat16", "name": "float16"}, {"dtype": "uint8"}]}
    mended, changed = in_float32(config)
    assert changed
    assert mended["layers"][0]["dtype"]["config"] == {"name": "float32"}
    assert mended["layers"][1:] == [{"dtype": "float32", "name": "float16"}, {"dtype": "uint8"}]
    assert in_float32(mended) == (mended, False)


def test_old_arguments_without_effect_are_left_out() -> None:
    old = layer("DepthwiseConv2D", kernel_size=3, groups=1)
    assert for_keras3(old)["config"] == {"name": "mine", "kernel_size": 3}
    assert for_keras3(layer("BatchNormalizationV1", axis=[3]))["config"]["axis"] == 3
    assert for_keras3(layer("DepthwiseConv2D", groups=2))["config"] == {"name": "mine", "groups": 2}
