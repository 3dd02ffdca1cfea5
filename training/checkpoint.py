"""What a training run leaves on disk: after each epoch all that is needed to go on, at the end the best network."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from training.artifacts import HISTORY_FILE, SPEC_FILE, WEIGHTS_FILE
from training.errors import TrainingError
from training.folders import replace_folder
from training.network import NetworkSpec, build_network
from training.params import Params

_STATE_FILE, _BEST_FILE = "state.npz", "best.npz"


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    #: Epochs done.
    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    #: One row of figures an epoch.
    history: tuple[dict[str, Any], ...] = ()

    def with_epoch(self, row: dict[str, Any]) -> "Progress":
        """Add the figures of one more epoch; `val_loss` decides whether it is the best."""
        done = replace(self, epoch=self.epoch + 1, history=(*self.history, row))
        if not row["val_loss"] < self.best_loss:
            return done
        return replace(done, best_epoch=done.epoch, best_loss=row["val_loss"])


@dataclass(frozen=True)
class TrainedNote:
    """What is written beside the weights of a finished run."""

    spec: NetworkSpec
    labels: list[str]
    #: Version of the weights that the run started from; empty if they were drawn.
    started_from: str = ""


def run_identity(params: Params, fingerprint: str) -> str:
    """Name a run by all that shapes it; a checkpoint of another identity is not gone on with."""
    knobs = (params.input.model_dump(), params.train.model_dump(), params.augment.model_dump())
    return hashlib.sha256(json.dumps([knobs, fingerprint]).encode()).hexdigest()


class Checkpoint:
    """The state of one run in the folder `folder`, which DVC does not know, so that it outlives a killed stage."""

    def __init__(self, folder: Path, network: keras.Model, identity: str) -> None:
        self._folder, self._network, self._identity = folder, network, identity
        network.optimizer.build(network.trainable_variables)

    def restore(self) -> Progress:
        """Load the last finished epoch into the network and its optimizer, if it is of this run."""
        path = self._folder / _STATE_FILE
        if not path.is_file():
            return Progress()
        with np.load(path) as state:
            kept = json.loads(str(state["progress"]))
            if kept.pop("identity") != self._identity:
                return Progress()
            for index, variable in enumerate(self._variables()):
                variable.assign(state[f"v{index}"])
        return Progress(**{**kept, "history": tuple(kept["history"])})

    def save(self, progress: Progress) -> None:
        """Write all that is needed to go on after this epoch; a kill while writing leaves the epoch before."""
        note = json.dumps({**asdict(progress), "identity": self._identity})
        values = {f"v{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(self._variables())}
        _write_npz(self._folder / _STATE_FILE, progress=np.array(note), **values)

    def keep_best(self) -> None:
        """Keep the weights that the network has now as the best of the run."""
        _write_npz(self._folder / _BEST_FILE, **_numbered(self._network))

    def finish(self, note: TrainedNote, progress: Progress, out: Path) -> None:
        """Write the best network and the history to `out`, which appears only when whole, and forget the rest."""
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            shutil.copyfile(self._folder / _BEST_FILE, unfinished / WEIGHTS_FILE)
            (unfinished / SPEC_FILE).write_text(json.dumps(asdict(note), indent=2) + "\n", encoding="utf-8")
            history = {"best_epoch": progress.best_epoch, "epochs": progress.history}
            (unfinished / HISTORY_FILE).write_text(json.dumps(history, indent=2) + "\n", encoding="utf-8")
            replace_folder(unfinished, out)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(self._folder)

    def _variables(self) -> list[Any]:
        return [*self._network.variables, *self._network.optimizer.variables]


def load_trained(folder: Path) -> tuple[keras.Model, TrainedNote]:
    """Build the float32 network that a run left in `folder`, not compiled, and give it with what is noted of it.

    Raises:
        TrainingError: the folder holds no trained network.
    """
    try:
        content = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
        note = TrainedNote(**content | {"spec": NetworkSpec(**content["spec"])})
        network = build_network(note.spec)
        with np.load(folder / WEIGHTS_FILE) as weights:
            network.set_weights([weights[f"v{index}"] for index in range(len(weights.files))])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{folder} holds no trained network ({error}); run `dvc repro train`.") from error
    return network, note


def _numbered(network: keras.Model) -> dict[str, Any]:
    return {f"v{index}": weight for index, weight in enumerate(network.get_weights())}


def _write_npz(path: Path, **arrays: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
    unfinished.replace(path)
