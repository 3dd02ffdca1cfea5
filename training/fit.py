"""Stage 2: fit a network to the prepared images, epoch by epoch, so that a killed run goes on where it was."""

import argparse
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from training.batches import Batches, as_dataset
from training.bundling import weights_version
from training.checkpoint import Checkpoint, Progress, TrainedNote, run_identity
from training.errors import TrainingError, run_command
from training.network import NetworkError, NetworkSpec, build_network, take_weights
from training.params import Params, read_params
from training.prepared import Split, read_split

#: The share of the epochs after which images have their full size.
_GROWN = 0.6
_SIZE_STEP_PX = 16
_PREDICT_BATCH = 64


def train(prepared: Path, params: Params, state: Path, out: Path) -> Progress:
    """Fit, and write the best network's weights, its spec and the history of epochs to the folder `out`.

    The folder `state` holds what a killed run needs to go on; it is removed at the end.

    The best epoch is the one of the least validation loss, measured with averaged weights if `train.ema` is set.

    Raises:
        TrainingError: the architecture is unknown or the prepared images are missing.
    """
    split, held_out = read_split(prepared, "train"), read_split(prepared, "validation")
    spec = network_spec(params, len(split.labels))
    network = compile_network(spec, params, steps_per_epoch(split, params))
    started_from = start_from(network, params)
    checkpoint = Checkpoint(state, network, run_identity(params, f"{split.fingerprint} {started_from}"))
    progress = checkpoint.restore()
    while not finished(progress, params):
        progress = _run_epoch(network, checkpoint, progress, split, held_out, params)
    checkpoint.finish(TrainedNote(spec, split.labels, started_from), progress, out)
    return progress


def network_spec(params: Params, classes: int) -> NetworkSpec:
    """Say what is to be built."""
    return NetworkSpec(
        params.train.architecture,
        params.input.height,
        params.input.width,
        classes,
        params.train.dropout,
        params.train.backbone_weights,
    )


def steps_per_epoch(split: Split, params: Params) -> int:
    """Count the batches of an epoch."""
    return max(1, len(split.facts) // params.train.batch_size)


def compile_network(spec: NetworkSpec, params: Params, steps: int) -> keras.Model:
    """Build the network with its optimizer (AdamW, warm-up and cosine) and loss."""
    knobs = params.train
    keras.utils.set_random_seed(knobs.seed)
    try:
        network = build_network(spec, dtype=knobs.precision, any_size=is_any_size(params))
    except NetworkError as error:
        raise TrainingError(str(error)) from error
    warmup = min(knobs.warmup_epochs, knobs.epochs / 2) * steps
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=knobs.learning_rate / 100,
        decay_steps=max(1, int(knobs.epochs * steps - warmup)),
        warmup_target=knobs.learning_rate,
        warmup_steps=int(warmup),
        alpha=0.01,
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=knobs.weight_decay, use_ema=knobs.ema > 0, ema_momentum=knobs.ema or 0.99
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    losses = keras.losses
    kind = losses.BinaryCrossentropy if spec.output == "sigmoid" else losses.CategoricalCrossentropy
    metric = "binary_accuracy" if spec.output == "sigmoid" else "categorical_accuracy"
    loss = kind(label_smoothing=knobs.label_smoothing)
    network.compile(optimizer, loss, metrics=[metric], jit_compile=_compiles_with_xla())
    return network


def _compiles_with_xla() -> str | bool:
    """Leave it to Keras, but for TensorFlow on CPUs, whose own convolutions take 0.6 times as long as XLA's."""
    on_cpus = keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")
    return False if on_cpus else "auto"


def start_from(network: keras.Model, params: Params) -> str:
    """Give `network` the weights that `train.start_weights` names, and say which version they are; "" if none.

    Raises:
        TrainingError: they cannot be read or do not fit.
    """
    if not params.train.start_weights:
        return ""
    try:
        take_weights(network, Path(params.train.start_weights))
    except NetworkError as error:
        raise TrainingError(str(error)) from error
    return weights_version(network)


def is_any_size(params: Params) -> bool:
    """Tell whether the network takes images of any size: if it pools globally."""
    return params.train.architecture == "compact"


def image_size(epoch: int, params: Params) -> tuple[int, int]:
    """Height and width in pixels that the training images of an epoch have."""
    full = (params.input.height, params.input.width)
    if not is_any_size(params):
        return full
    share = min(1.0, epoch / max(1.0, _GROWN * params.train.epochs))
    start, end = params.train.start_side_px, params.train.end_side_px
    height, width = (_side_between(start or side, end or side, share) for side in full)
    return height, width


def _side_between(start: int, end: int, share: float) -> int:
    """Go from `start` to `end` in steps."""
    return end if share == 1 else round((start + share * (end - start)) / _SIZE_STEP_PX) * _SIZE_STEP_PX


def finished(progress: Progress, params: Params) -> bool:
    """Tell whether all epochs are done, or none has been better for too long."""
    patience = params.train.patience
    if patience and progress.epoch - progress.best_epoch > patience:
        return True
    return progress.epoch >= params.train.epochs


def _run_epoch(
    network: keras.Model, checkpoint: Checkpoint, progress: Progress, split: Split, held_out: Split, params: Params
) -> Progress:
    epoch, started = progress.epoch, time.monotonic()
    keras.utils.set_random_seed(params.train.seed + epoch)
    batches = Batches(split, params, epoch, image_size(epoch, params))
    fitted = network.fit(as_dataset(batches), epochs=epoch + 1, initial_epoch=epoch, verbose="auto")
    if not math.isfinite(fitted.history["loss"][-1]):
        raise TrainingError(f"The loss of epoch {epoch + 1} is no number any more; lower train.learning_rate.")
    with averaged_weights(network, params):
        row = {"epoch": epoch + 1, "loss": float(fitted.history["loss"][-1]), **validate(network, held_out)}
        row["seconds"] = round(time.monotonic() - started, 1)
        progress = progress.with_epoch(row)
        if progress.best_epoch == progress.epoch:
            checkpoint.keep_best()
    checkpoint.save(progress)
    print(json.dumps(row), flush=True)
    return progress


@contextmanager
def averaged_weights(network: keras.Model, params: Params) -> Iterator[None]:
    """Lend the network the running average of its weights, where one is kept."""
    if not params.train.ema:
        yield
        return
    own = network.get_weights()
    network.optimizer.finalize_variable_values(network.trainable_variables)
    # As copies: JAX shares the arrays, and predicting would use up the optimizer's.
    network.set_weights(network.get_weights())
    try:
        yield
    finally:
        network.set_weights(own)


def validate(network: keras.Model, split: Split) -> dict[str, float]:
    """Log loss (nats) and accuracy on a split, at the network's training precision."""
    answers = predict(network, split.pixels)
    chosen = np.clip(answers[np.arange(len(answers)), split.targets], 1e-7, 1)
    right = answers.argmax(axis=1) == split.targets
    return {"val_loss": float(-np.log(chosen).mean()), "val_accuracy": float(right.mean())}


def predict(network: keras.Model, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities of uint8 (n, height, width, 3) images: float32, (n, classes), also where one unit gives them."""
    starts = range(0, len(pixels), _PREDICT_BATCH)
    parts = [network.predict_on_batch(np.asarray(pixels[start : start + _PREDICT_BATCH])) for start in starts]
    answers = np.concatenate(parts).astype(np.float32)
    return np.concatenate([1 - answers, answers], axis=1) if answers.shape[1] == 1 else answers


def main() -> None:
    """Read the command line and run the stage."""
    parser = argparse.ArgumentParser(
        prog="python -m training.fit",
        description=__doc__,
        epilog="example: python -m training.fit --prepared build/prepared --out build/trained",
    )
    parser.add_argument("--prepared", type=Path, default=Path("build/prepared"))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--state", type=Path, default=Path("build/checkpoint"), help="where a killed run left off")
    parser.add_argument("--out", type=Path, default=Path("build/trained"))
    given = parser.parse_args()
    train(given.prepared, read_params(given.params), given.state, given.out)


if __name__ == "__main__":
    run_command(main)
