"""What a training run stores: a checkpoint to resume from after each epoch, and the best network at the end."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bundle.staging import staged_folder
from training.errors import TrainingError
from training.files import HISTORY_FILE, SPEC_FILE, WEIGHTS_FILE
from training.networks.architectures import NetworkSpec, build_network
from training.networks.transfer import fold_batch_normalization
from training.params import Params

_STATE_FILE, _BEST_FILE = "state.npz", "best.npz"


@dataclass(frozen=True)
class Progress:
    """The state of a run, apart from its weights."""

    #: Number of finished epochs.
    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    #: One row of metrics per epoch; of a pretrained network, one before them for its head.
    history: tuple[dict[str, Any], ...] = ()

    def with_row(self, row: dict[str, Any]) -> "Progress":
        """Return the progress after the epoch in `row`; the lowest `val_loss` is the best."""
        progress = replace(self, epoch=row["epoch"], history=(*self.history, row))
        if not row["val_loss"] < self.best_loss:
            return progress
        return replace(progress, best_epoch=progress.epoch, best_loss=row["val_loss"])


@dataclass(frozen=True)
class TrainingRecord:
    """What is stored with the weights of a finished run."""

    spec: NetworkSpec
    labels: list[str]
    #: Version of the weights that the run started from, or name of its pretrained backbone; empty if random.
    started_from: str = ""
    #: Version of the teacher's bundle; empty if there was none.
    teacher: str = ""


def run_identity(params: Params, fingerprint: str) -> str:
    """Hash of everything that determines a run. A checkpoint with a different identity is ignored."""
    sections = (params.input.model_dump(), params.train.model_dump(), params.augment.model_dump())
    return hashlib.sha256(json.dumps([sections, fingerprint]).encode()).hexdigest()


class Checkpoint:
    """The state of one run in `folder`. The folder is not a DVC output, so it survives a killed stage."""

    def __init__(self, folder: Path, network: keras.Model, identity: str) -> None:
        self._folder, self._network, self._identity = folder, network, identity
        network.optimizer.build(network.trainable_variables)

    def restore(self) -> Progress:
        """Load the last finished epoch of this run, if any, into the network and optimizer. Return the progress."""
        path = self._folder / _STATE_FILE
        if not path.is_file():
            return Progress()
        with np.load(path) as state:
            progress = json.loads(str(state["progress"]))
            if progress.pop("identity") != self._identity:
                return Progress()
            for index, variable in enumerate(self._variables()):
                variable.assign(state[f"v{index}"])
        return Progress(**{**progress, "history": tuple(progress["history"])})

    def save(self, progress: Progress) -> None:
        """Store everything needed to resume after this epoch. The previous epoch is kept until all is written."""
        content = json.dumps({**asdict(progress), "identity": self._identity})
        values = {f"v{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(self._variables())}
        _write_npz(self._folder / _STATE_FILE, progress=np.array(content), **values)

    def save_best(self) -> None:
        """Store the network's current weights as the best of the run."""
        weights = {f"v{index}": weight for index, weight in enumerate(self._network.get_weights())}
        _write_npz(self._folder / _BEST_FILE, **weights)

    def finish(self, record: TrainingRecord, progress: Progress, out: Path) -> None:
        """Write the best network and the history to the folder `out`, and delete the checkpoint."""
        with staged_folder(out) as folder:
            shutil.copyfile(self._folder / _BEST_FILE, folder / WEIGHTS_FILE)
            (folder / SPEC_FILE).write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
            history = {"best_epoch": progress.best_epoch, "epochs": progress.history}
            (folder / HISTORY_FILE).write_text(json.dumps(history, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(self._folder)

    def _variables(self) -> list[Any]:
        return [*self._network.variables, *self._network.optimizer.variables]


def load_trained(folder: Path) -> tuple[keras.Model, TrainingRecord]:
    """Return the trained network of a finished run, in float32 and not compiled, and its record.

    In a pretrained network, batch normalization is folded into the convolutions.

    Raises:
        TrainingError: the folder does not hold a trained network.
    """
    try:
        content = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
        record = TrainingRecord(**content | {"spec": NetworkSpec(**content["spec"])})
        network = build_network(record.spec)
        with np.load(folder / WEIGHTS_FILE) as weights:
            network.set_weights([weights[f"v{index}"] for index in range(len(weights.files))])
        if record.spec.architecture == "transfer":
            network = fold_batch_normalization(network)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{folder} contains no trained network ({error}). Run `dvc repro train`.") from error
    return network, record


def _write_npz(path: Path, **arrays: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)  # on a full disk, it would keep the space that the next run needs
