"""Stage 2: train a network on the prepared images. An interrupted run resumes after the last finished epoch."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from training.data.batches import Batches, as_dataset, steps_per_epoch
from training.data.splits import Split, read_split
from training.errors import TrainingError, run_command
from training.files import PARAMS_FILE, PREPARED, TRAINED, parse_paths
from training.networks.architectures import NetworkSpec, build_network, load_weights, predict
from training.networks.checkpoint import Checkpoint, Progress, TrainingRecord, run_identity
from training.params import Params, read_params
from training.quality.calibration import log_loss
from training.quality.metrics import accuracy
from training.release.bundling import weights_version

#: Fraction of the epochs after which training images have their final size.
_FULL_SIZE_AFTER = 0.6
_SIZE_STEP_PX = 16


def train(prepared: Path, params: Params, state: Path, out: Path) -> Progress:
    """Train, and write the best network's weights, its spec and the history to the folder `out`.

    The best epoch has the lowest validation loss, measured with averaged weights if `train.ema` is set. The folder
    `state` holds the checkpoint from which an interrupted run resumes; it is deleted at the end.

    Raises:
        TrainingError: the architecture is unknown, the prepared images are missing, the start weights do not fit, or
            the loss diverges.
    """
    split, validation = read_split(prepared, "train"), read_split(prepared, "validation")
    spec = network_spec(params, len(split.labels))
    network = compile_network(spec, params, steps_per_epoch(split, params))
    started_from = load_start_weights(network, params)
    checkpoint = Checkpoint(state, network, run_identity(params, f"{split.fingerprint} {started_from}"))
    progress = checkpoint.restore()
    while not _finished(progress, params):
        progress = _run_epoch(network, checkpoint, progress, split, validation, params)
    checkpoint.finish(TrainingRecord(spec, split.labels, started_from), progress, out)
    return progress


def network_spec(params: Params, classes: int) -> NetworkSpec:
    """Return the description of the network in `params`."""
    return NetworkSpec(
        architecture=params.train.architecture,
        height=params.input.height,
        width=params.input.width,
        classes=classes,
        dropout=params.train.dropout,
        backbone_weights=params.train.backbone_weights,
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
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=options.weight_decay, use_ema=options.ema > 0, ema_momentum=options.ema or 0.99
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
    """Load the weights at `train.start_weights` and return their version, or "" if the parameter is empty.

    Raises:
        TrainingError: the weights cannot be read or do not fit the network.
    """
    if not params.train.start_weights:
        return ""
    load_weights(network, Path(params.train.start_weights))
    return weights_version(network)


def _takes_any_size(params: Params) -> bool:
    """Whether the network pools globally and so accepts images of any size."""
    return params.train.architecture == "compact"


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


def _run_epoch(
    network: keras.Model, checkpoint: Checkpoint, progress: Progress, split: Split, validation: Split, params: Params
) -> Progress:
    epoch, started = progress.epoch, time.monotonic()
    keras.utils.set_random_seed(params.train.seed + epoch)
    batches = Batches(split, params, epoch, image_size(epoch, params))
    fitted = network.fit(as_dataset(batches), epochs=epoch + 1, initial_epoch=epoch, verbose="auto")
    if not math.isfinite(fitted.history["loss"][-1]):
        raise TrainingError(
            f"Training diverged: the loss of epoch {epoch + 1} is not finite. Lower train.learning_rate."
        )
    with _averaged_weights(network, params):
        row = {"epoch": epoch + 1, "loss": float(fitted.history["loss"][-1]), **_validate(network, validation)}
        row["seconds"] = round(time.monotonic() - started, 1)
        progress = progress.with_epoch(row)
        if progress.best_epoch == progress.epoch:
            checkpoint.save_best()
    checkpoint.save(progress)
    print(json.dumps(row), flush=True)
    return progress


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
    """Log loss (nats) and accuracy on a split, at training precision."""
    probabilities, truth = predict(network, split.pixels).astype(float), split.targets
    return {"val_loss": log_loss(probabilities, truth), "val_accuracy": accuracy(probabilities, truth)}


def main() -> None:
    """Run the stage."""
    state = Path("build/checkpoint")
    paths = parse_paths(
        "training.stages.train", __doc__, prepared=PREPARED, params=PARAMS_FILE, state=state, out=TRAINED
    )
    train(paths.prepared, read_params(paths.params), paths.state, paths.out)


if __name__ == "__main__":
    run_command(main)
