"""Synthetic images, parameters and bundles for tests. A tiny network learns the classes in seconds."""

import io
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bundle.familiarity import PROTOTYPES_FILE
from bundle.golden import RECIPE, fingerprint, golden_inputs
from bundle.manifest import MANIFEST_FILE, MODEL_FILE, Golden, InputSpec, Manifest, sha256_of
from training.files import PREDICTIONS_FILE
from training.params import Params, read_params

ROOT = Path(__file__).parents[2]


@cache
def striped_jpeg(label: int, seed: int, side: int = 48) -> bytes:
    """Horizontal (0), vertical (1) or crossed (2) stripes on random blobs."""
    rng = np.random.default_rng((label, seed))
    blobs = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((side, side))
    pixels = np.asarray(blobs).astype(float) * 0.6
    stripes = (np.arange(side) // 4 % 2) * 100.0
    if label in (0, 2):
        pixels += stripes[:, None, None]
    if label in (1, 2):
        pixels += stripes[None, :, None]
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


def write_folders(folder: Path, count: int, names: tuple[str, ...] = ("lying", "standing")) -> Path:
    """Write `count` images of each class into class folders."""
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for seed in range(count):
            (folder / name / f"{seed}.jpg").write_bytes(striped_jpeg(label, seed))
    return folder


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """Write a tar with these members; their names may be unsafe."""
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def tiny_params(**train: object) -> Params:
    """The project's parameters, reduced so that training takes seconds."""
    params = read_params(ROOT / "params.yaml")
    small = {
        "architecture": "compact", "epochs": 3, "batch_size": 16, "learning_rate": 0.003, "warmup_epochs": 0.5,
        "ema": 0.5, "patience": 0, "start_side_px": 0, "end_side_px": 0, "precision": "float32",
    }  # fmt: skip
    off = dict.fromkeys(("quarter_turn", "grey", "low_light", "blur", "jpeg", "noise", "erase", "mixup"), 0.0)
    return params.model_copy(
        update={
            "input": params.input.model_copy(update={"height": 32, "width": 32}),
            "prepare": params.prepare.model_copy(
                update={"enlarge": 1.25, "min_side_px": 16, "validation": 0.2, "test": 0.2}
            ),
            "train": params.train.model_copy(update=small | train),
            "augment": params.augment.model_copy(
                update={**off, "rotation": 5.0, "flip": False, "area": (0.8, 1.0), "aspect": 1.1}
            ),
            "evaluate": params.evaluate.model_copy(update={"bootstrap_rounds": 100}),
            "export": params.export.model_copy(update={"name": "stripes"}),
        }
    )


def write_fake_bundle(folder: Path, rows: list[str], **members: Any) -> Path:
    """Write a valid cats-dogs bundle without a real network, with these rows of predictions."""
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(folder.name.encode())
    (folder / PREDICTIONS_FILE).write_text("\n".join(["sha256,label,cat,dog", *rows]) + "\n", encoding="utf-8")
    (folder / PROTOTYPES_FILE).write_bytes(b"prototypes")
    manifest = Manifest(
        schema=1,
        name="cats-dogs",
        version=folder.name,
        architecture="compact",
        labels=["cat", "dog"],
        input=InputSpec(height=32, width=32),
        output="sigmoid",
        golden=Golden(recipe=RECIPE, inputs_sha256=fingerprint(golden_inputs(32, 32)), outputs=[[0.5, 0.5]] * 8),
        sha256={name: sha256_of(folder / name) for name in (MODEL_FILE, PREDICTIONS_FILE, PROTOTYPES_FILE)},
        **members,
    )
    (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    return folder
