"""Images drawn for tests: two or more classes that a tiny network tells apart in seconds."""

import io
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from training.params import Params, read_params

ROOT = Path(__file__).parents[2]


@cache
def drawn_jpeg(label: int, seed: int, side: int = 48) -> bytes:
    """Draw stripes that lie (0), stand (1) or cross (2), over a background of random blobs."""
    draw = np.random.default_rng((label, seed))
    blobs = Image.fromarray(draw.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((side, side))
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
            (folder / name / f"{seed}.jpg").write_bytes(drawn_jpeg(label, seed))
    return folder


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """Write a tar with these members, whatever their names."""
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def tiny_params(**train: object) -> Params:
    """Give the project's parameters, cut down to seconds."""
    params = read_params(ROOT / "params.yaml")
    small = {
        "architecture": "compact", "epochs": 3, "batch_size": 16, "learning_rate": 0.003, "warmup_epochs": 0.5,
        "ema": 0.5, "patience": 0, "start_side_px": 0, "end_side_px": 0, "precision": "float32",
    }  # fmt: skip
    calm = dict.fromkeys(("quarter_turn", "grey", "low_light", "blur", "jpeg", "noise", "erase", "mixup"), 0.0)
    return params.model_copy(
        update={
            "input": params.input.model_copy(update={"height": 32, "width": 32}),
            "prepare": params.prepare.model_copy(
                update={"enlarge": 1.25, "min_side_px": 16, "validation": 0.2, "test": 0.2}
            ),
            "train": params.train.model_copy(update=small | train),
            "augment": params.augment.model_copy(
                update={**calm, "rotation": 5.0, "flip": False, "area": (0.8, 1.0), "aspect": 1.1}
            ),
            "evaluate": params.evaluate.model_copy(update={"bootstrap_rounds": 100}),
            "export": params.export.model_copy(update={"name": "stripes"}),
        }
    )
