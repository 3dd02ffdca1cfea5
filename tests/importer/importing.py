"""Makes networks and imports them, in one process, and compares the worker's answers with those of Keras.

`python -m tests.importer.importing FOLDER STORE KIND...` prints a JSON object for each kind.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from importer.request import ImportFailedError, Request
from importer.source import find
from tests.support.services import ROOT

#: File name and options of each kind; those not listed need none.
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "h5-of-one-sigmoid": ("model.h5", {"scale": "0..1", "labels": "cat,dog"}),
    "logits-by-loss": ("model.keras", {"scale": "-1..1"}),
    "logits-by-values": ("model.h5", {"scale": "-1..1"}),
    "one-logit": ("model.keras", {"scale": "0..1", "labels": "cat,dog"}),
    "several-labels": ("model.keras", {"multi_label": True, "labels": "a,b,c,d"}),
    "several-sigmoids": ("model.keras", {"multi_label": False}),
    "two-heads": ("model.keras", {"output": "animal"}),
    "any-size": ("model.keras", {"size": (32, 32)}),
    "grey-without-channel": ("model.keras", {"labels": "0,1,2,3,4,5,6,7,8,9", "scale": "0..1"}),
    "channels-first": ("model.keras", {"scale": "0..1"}),
    "mobilenet": ("model.h5", {"labels": "a,b,c,d,e", "scale": "-1..1"}),
    "mobilenet-v3": ("model.keras", {"labels": "a,b,c,d,e"}),
    "imagenet": ("model.keras", {"scale": "imagenet"}),
    "caffe": ("model.h5", {"scale": "caffe"}),
    "batch-normalization-first": ("model.keras", {"scale": "0..1"}),
    "own-layer": ("model.keras", {"modules": ["gain.py"]}),
    "own-function": ("model.keras", {"trust_code": True}),
    "saved-model": ("model", {}),
    "old-pipeline": ("model.h5", {"scale": "0..1", "labels": "cat,dog"}),
    "keras2-mobilenet": ("model.h5", {"labels": "a,b,c,d,e", "scale": "-1..1"}),
    "keras2-functions": ("model.h5", {}),
    "keras2-sixteen-bits": ("model.h5", {}),
    "keras2-logits": ("model.h5", {"scale": "0..1"}),
    "keras2-saved-model": ("model", {"labels": "cat,dog"}),
    "keras2-own-layer": ("model.h5", {"scale": "0..1", "modules": ["gain.py"]}),
    "keras2-own-function": ("model.h5", {"trust_code": True}),
    "keras2-teachable-folder": ("model", {"labels": None}),
    "keras2-teachable-zip": ("converted_keras.zip", {"labels": None}),
}


def import_command(folder: Path, *arguments: object, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run `pawqueue models import` in a folder, with the state folder `state` in it and these variables."""
    return subprocess.run(
        [sys.executable, "-m", "pawqueue", "models", "import", *map(str, arguments)],
        cwd=folder,
        env=environ_in(folder) | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def environ_in(folder: Path) -> dict[str, str]:
    """The environment of `import_command`."""
    return os.environ | {"PYTHONPATH": str(ROOT), "PAWQUEUE_STATE_DIR": str(folder / "state")}


def import_kind(folder: Path, store: Path, name: str) -> dict[str, Any]:
    """Import a network; returns how its bundle's answers differ from those of Keras, or the error."""
    from importer.run import import_network
    from worker.runtime.keras import load_model

    file, options = OPTIONS.get(name, ("model.keras", {}))
    options = {"labels": "cat,dog,rabbit"} | options
    options["modules"] = [str(folder / name / module) for module in options.get("modules", [])]
    request = Request(source=str(folder / name / file), name=name, store=str(store), **options)
    expected = np.load(folder / name / "expected.npz")
    said: list[tuple[str, str]] = []
    found: dict[str, Any] = {}

    def prove(bundle: Path, pixels: Any, values: Any, *, trust_code: bool) -> dict[str, float]:
        model = load_model(bundle, "float32", 4, 1, trust_code=trust_code)
        answers = model.predict(expected["pixels"]).probabilities
        found["difference"] = float(np.abs(answers - expected["probabilities"]).max())
        found["spread"] = float(np.ptp(expected["probabilities"], axis=0).max())
        return {"float32": float(np.abs(model.predict(pixels).probabilities - values).max())}

    work = Path(tempfile.mkdtemp())
    try:
        result = import_network(request, find(request, work), lambda *pair: said.append(pair), prove)
    except ImportFailedError as error:
        return {"error": str(error), "said": said}
    finally:
        shutil.rmtree(work)
    members = {"format": result["format"], "proof": result["differences"], "output": result["output"]}
    return found | members | {"said": said}


if __name__ == "__main__":
    networks, models, *kinds = sys.argv[1:]
    from tests.importer import keras2
    from tests.importer.networks import KINDS, write

    write(KINDS | keras2.KINDS, Path(networks), kinds)
    for one in kinds:
        print(json.dumps({"kind": one} | import_kind(Path(networks), Path(models), one)), flush=True)
