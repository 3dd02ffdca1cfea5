"""Stage 2: train a network on the prepared images. An interrupted run resumes after the last finished epoch.

A pretrained network (`transfer`) is trained in two steps: first its head on the features of the frozen backbone, which
is row 0 of the history, then all of its layers.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from training.data.balance import balancing_weights
from training.data.batches import Batches, as_dataset, steps_per_epoch
from training.data.splits import Split, read_split
from training.data.teacher import Teacher, load_teacher
from training.errors import TrainingError, run_command
from training.files import PARAMS_FILE, PREPARED, TRAINED, parse_paths
from training.networks.architectures import NetworkSpec, build_network, load_weights, predict
from training.networks.backbones import RANDOM
from training.networks.checkpoint import Checkpoint, Progress, TrainingRecord, run_identity
from training.networks.head import compute_features, fit_head
from training.networks.transfer import load_backbone
from training.params import Params, read_params
from training.quality.calibration import fit_calibration, log_loss
from training.quality.metrics import accuracy
from training.release.bundling import weights_version
from training.terminal import progress_bar

#: Fraction of the epochs after which training images have their final size.
_FULL_SIZE_AFTER = 0.6
_SIZE_STEP_PX = 16
#: The moving average of the weights covers at most this fraction of the steps.
_AVERAGED = 0.1


def train(prepared: Path, params: Params, state: Path, out: Path) -> Progress:
    """Train, and write the best network's weights, its spec and the history to the folder `out`.

    The best epoch has the lowest validation loss, measured with averaged weights if `train.ema` is set. The folder
    `state` holds the checkpoint from which an interrupted run resumes; it is deleted at the end.

    Raises:
        TrainingError: the architecture is unknown, the prepared images are missing, the start weights or the teacher do
            not fit, or the loss diverges.
        BackboneError: the pretrained weights are missing or do not fit.
    """
    split, validation = read_split(prepared, "train"), read_split(prepared, "validation")
    spec = network_spec(params, len(split.labels))
    teacher = _load_teacher(params, split.labels)
    network = compile_network(spec, params, steps_per_epoch(split, params))
    record = TrainingRecord(
        spec, split.labels, started_from=load_start_weights(network, params), teacher=teacher.version if teacher else ""
    )
    identity = run_identity(params, f"{split.fingerprint} {record.started_from} {record.teacher}")
    checkpoint = Checkpoint(state, network, identity)
    progress = checkpoint.restore()
    if spec.architecture == "transfer" and not progress.history:
        progress = _train_head(network, checkpoint, split, validation, params)
    while not _finished(progress, params):
        batches = Batches(split, params, progress.epoch, image_size(progress.epoch, params), teacher)
        progress = _run_epoch(network, checkpoint, progress, batches, validation, params)
    checkpoint.finish(record, progress, out)
    return progress


def network_spec(params: Params, classes: int) -> NetworkSpec:
    """Return the description of the network in `params`."""
    return NetworkSpec(
        architecture=params.train.architecture,
        height=params.input.height,
        width=params.input.width,
        classes=classes,
        dropout=params.train.dropout,
        backbone=params.train.backbone,
    )


def compile_network(spec: NetworkSpec, params: Params, steps: int) -> keras.Model:
    """Build the network with its loss and optimizer: AdamW with warm-up and cosine decay."""
    options = params.train
    keras.utils.set_random_seed(options.seed)
    network = build_network(spec, dtype=options.precision, any_size=_takes_any_size(params))
    warmup = min(options.warmup_epochs, options.epochs / 2) * steps
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=options.learning_rate / 100,
        decay_steps=max(1, int(options.epochs * steps - warmup)),
        warmup_target=options.learning_rate,
        warmup_steps=int(warmup),
        alpha=0.01,
    )
    ema = min(options.ema, max(0.0, 1 - 1 / (_AVERAGED * max(1, options.epochs) * steps)))
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=options.weight_decay, use_ema=options.ema > 0, ema_momentum=ema
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    losses = keras.losses
    kind = losses.BinaryCrossentropy if spec.output == "sigmoid" else losses.CategoricalCrossentropy
    metric = "binary_accuracy" if spec.output == "sigmoid" else "categorical_accuracy"
    loss = kind(label_smoothing=options.label_smoothing)
    network.compile(optimizer, loss, metrics=[metric], jit_compile=_jit_compile())
    return network


def _jit_compile() -> str | bool:
    """Let Keras choose, except on CPUs: TensorFlow's convolutions take 40 % less time there without XLA."""
    is_on_cpu = keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")
    return False if is_on_cpu else "auto"


def load_start_weights(network: keras.Model, params: Params) -> str:
    """Load the weights that the run starts from and return their version, or "" if they are random.

    Raises:
        TrainingError: the weights cannot be read or do not fit the network.
        BackboneError: the same, for pretrained weights.
    """
    options, started_from = params.train, ""
    if options.architecture == "transfer" and options.backbone_weights != RANDOM:
        started_from = load_backbone(network, options.backbone, options.backbone_weights)
    if options.start_weights:
        started_from = weights_version(load_weights(network, Path(options.start_weights)))
    return started_from


def _load_teacher(params: Params, labels: list[str]) -> Teacher | None:
    path = params.train.teacher
    return load_teacher(path, labels, jit_compile=_jit_compile()) if path else None


def class_weights(split: Split) -> dict[int, float] | None:
    """Weights by class index that make up for an imbalance, or None if there is none."""
    weights = balancing_weights(Counter(fact.label for fact in split.facts))
    return {split.labels.index(label): weight for label, weight in weights.items()} if weights else None


def _takes_any_size(params: Params) -> bool:
    """Whether the network pools globally and so accepts images of any size."""
    return params.train.architecture in ("compact", "transfer")


def image_size(epoch: int, params: Params) -> tuple[int, int]:
    """Height and width of the training images in an epoch, in pixels."""
    full = (params.input.height, params.input.width)
    if not _takes_any_size(params):
        return full
    share = min(1.0, epoch / max(1.0, _FULL_SIZE_AFTER * params.train.epochs))
    start, end = params.train.start_side_px, params.train.end_side_px
    height, width = (_interpolate(start or side, end or side, share) for side in full)
    return height, width


def _interpolate(start: int, end: int, share: float) -> int:
    """Return a side between `start` and `end`, rounded to `_SIZE_STEP_PX`."""
    return end if share == 1 else round((start + share * (end - start)) / _SIZE_STEP_PX) * _SIZE_STEP_PX


def _finished(progress: Progress, params: Params) -> bool:
    patience = params.train.patience
    if patience and progress.epoch - progress.best_epoch > patience:
        return True
    return progress.epoch >= params.train.epochs


def _train_head(
    network: keras.Model, checkpoint: Checkpoint, split: Split, validation: Split, params: Params
) -> Progress:
    """Return row 0 of the history. Start weights include a trained head, which is only validated."""
    started = time.monotonic()
    row: dict[str, Any] = {"epoch": 0}
    if not params.train.start_weights:
        size = (params.input.height, params.input.width)
        features = [compute_features(network, images, *size) for images in (split, validation)]
        row["loss"] = fit_head(network, *features, is_balanced=class_weights(split) is not None)
    row |= _validate(network, validation)
    row["seconds"] = round(time.monotonic() - started, 1)
    progress = Progress().with_row(row)
    checkpoint.save_best()
    checkpoint.save(progress)
    print(json.dumps(row), flush=True)
    return progress


def _run_epoch(
    network: keras.Model,
    checkpoint: Checkpoint,
    progress: Progress,
    batches: Batches,
    validation: Split,
    params: Params,
) -> Progress:
    epoch, started = progress.epoch, time.monotonic()
    keras.utils.set_random_seed(params.train.seed + epoch)
    fitted = network.fit(
        as_dataset(batches),
        epochs=epoch + 1,
        initial_epoch=epoch,
        class_weight=class_weights(batches.split),
        verbose=0,
        callbacks=[_Progress(epoch, params.train.epochs)],
    )
    if not math.isfinite(fitted.history["loss"][-1]):
        raise TrainingError(
            f"Training diverged: the loss of epoch {epoch + 1} is not finite. Lower train.learning_rate."
        )
    with _averaged_weights(network, params):
        row = {"epoch": epoch + 1, "loss": float(fitted.history["loss"][-1]), **_validate(network, validation)}
        row["seconds"] = round(time.monotonic() - started, 1)
        progress = progress.with_row(row)
        if progress.best_epoch == progress.epoch:
            checkpoint.save_best()
    checkpoint.save(progress)
    print(json.dumps(row), flush=True)
    return progress


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """Shows a bar for one epoch."""

    def __init__(self, epoch: int, epochs: int) -> None:
        super().__init__()
        self._name = f"train, epoch {epoch + 1} of {epochs}"

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        self._bar = progress_bar(total=self.params["steps"], desc=self._name, unit=" batches")

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        self._bar.set_postfix(loss=f"{(logs or {})['loss']:.3f}", refresh=False)
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        self._bar.close()


@contextmanager
def _averaged_weights(network: keras.Model, params: Params) -> Iterator[None]:
    """Use the moving average of the weights inside the `with` block, if `train.ema` is set."""
    if not params.train.ema:
        yield
        return
    original = network.get_weights()
    network.optimizer.finalize_variable_values(network.trainable_variables)
    # Set copies, because JAX shares the arrays with the optimizer and would donate them to `predict`.
    network.set_weights(network.get_weights())
    try:
        yield
    finally:
        network.set_weights(original)


def _validate(network: keras.Model, split: Split) -> dict[str, float]:
    """Log loss (nats) and accuracy on a split, at training precision.

    The loss is that of calibrated probabilities, because the stage `evaluate` calibrates them. Otherwise the head could
    not be compared with the epochs, which smooth labels.
    """
    probabilities, truth = predict(network, split.pixels).astype(float), split.targets
    calibrated = fit_calibration(probabilities, truth).apply(probabilities)
    return {"val_loss": log_loss(calibrated, truth), "val_accuracy": accuracy(calibrated, truth)}


def main() -> None:
    """Run the stage."""
    state = Path("build/checkpoint")
    paths = parse_paths(
        "training.stages.train", __doc__, prepared=PREPARED, params=PARAMS_FILE, state=state, out=TRAINED
    )
    train(paths.prepared, read_params(paths.params), paths.state, paths.out)


if __name__ == "__main__":
    run_command(main)
