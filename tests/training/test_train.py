"""Training is reproducible, and an interrupted run gives the same result as an uninterrupted one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bundle.manifest import MODEL_FILE
from tests.training.synthetic import ROOT, tiny_params
from training.data.augment import at_strength, augment
from training.data.batches import Batches, augmentation_strength
from training.data.splits import read_split
from training.errors import TrainingError
from training.networks.architectures import NetworkSpec, predict
from training.networks.checkpoint import load_trained
from training.params import read_params
from training.release.untrained import export_untrained
from training.stages.train import compile_network, image_size, load_start_weights, network_spec, train


def test_prepared_splits_are_complete_and_have_the_right_size(prepared: Path) -> None:
    splits = {name: read_split(prepared, name) for name in ("train", "validation", "test")}
    assert sum(len(split.facts) for split in splits.values()) == 120
    assert splits["train"].pixels.shape[1:] == (40, 40, 3)
    assert splits["test"].pixels.shape[1:] == (32, 32, 3)
    assert splits["test"].labels == ["lying", "standing"]
    assert (prepared / "contact-lying.jpg").is_file()


def test_augmentation_depends_only_on_the_seed(prepared: Path) -> None:
    params = read_params(ROOT / "params.yaml").augment
    pixels = read_split(prepared, "train").pixels[0]
    first = [augment(pixels, 48, 32, params, np.random.default_rng((1, seed))) for seed in range(60)]
    second = [augment(pixels, 48, 32, params, np.random.default_rng((1, seed))) for seed in range(60)]
    assert all(image.shape == (48, 32, 3) and image.dtype == np.uint8 for image in first)
    assert all((one == other).all() for one, other in zip(first, second, strict=True))
    assert len({image.tobytes() for image in first}) == 60


def test_augmentation_grows_stronger_over_the_epochs() -> None:
    params = tiny_params(epochs=10)
    params = params.model_copy(update={"augment": params.augment.model_copy(update={"full_after": 0.5, "jpeg": 0.4})})
    strengths = [augmentation_strength(epoch, params) for epoch in range(10)]
    assert strengths[0] == 0.25
    assert strengths == sorted(strengths)
    assert strengths[5:] == [1.0] * 5
    assert at_strength(params.augment, 1.0) == params.augment
    assert at_strength(params.augment, 0.5).jpeg == 0.2


def test_batches_depend_on_the_epoch_and_the_seed(prepared: Path) -> None:
    split, params = read_split(prepared, "train"), tiny_params()
    params = params.model_copy(update={"augment": params.augment.model_copy(update={"mixup": 0.2})})
    one, same, other = (Batches(split, params, epoch, (32, 32)) for epoch in (0, 0, 1))
    assert (one[1][0] == same[1][0]).all()
    assert not (one[1][0] == other[1][0]).all()
    reseeded = params.model_copy(update={"train": params.train.model_copy(update={"seed": params.train.seed + 1})})
    assert not (one[1][0] == Batches(split, reseeded, 0, (32, 32))[1][0]).all()
    assert one[1][1].shape == (16, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("short_compact")
def test_an_interrupted_run_gives_the_same_result_as_an_uninterrupted_one(
    prepared: Path, tmp_path: Path, interrupted: Callable[..., None]
) -> None:
    params = tiny_params()
    whole = train(prepared, params, tmp_path / "state-1", tmp_path / "whole")
    interrupted(3, prepared, params, tmp_path / "state-2", tmp_path / "resumed")
    assert not (tmp_path / "resumed").exists()
    resumed = train(prepared, params, tmp_path / "state-2", tmp_path / "resumed")
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3]
    for row, expected in zip(resumed.history, whole.history, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], abs=0.02)
        assert row["val_loss"] == pytest.approx(expected["val_loss"], abs=0.02)
    pixels = read_split(prepared, "test").pixels
    probabilities = [predict(load_trained(tmp_path / run)[0], pixels) for run in ("whole", "resumed")]
    assert np.abs(probabilities[0] - probabilities[1]).max() < 0.05
    assert not (tmp_path / "state-2").exists()


def test_a_checkpoint_from_a_different_run_is_ignored(
    prepared: Path, tmp_path: Path, interrupted: Callable[..., None]
) -> None:
    params = tiny_params(architecture="baseline_cnn", epochs=2)
    interrupted(2, prepared, params, tmp_path / "state", tmp_path / "out")
    assert (tmp_path / "state").exists()
    changed = tiny_params(architecture="baseline_cnn", epochs=2, dropout=0.3)
    interrupted(
        1, prepared, changed, tmp_path / "state", tmp_path / "out"
    )  # epoch 1 runs only if the checkpoint is ignored


@pytest.mark.usefixtures("short_compact")
def test_a_run_can_start_from_the_weights_of_another(prepared: Path, tmp_path: Path) -> None:
    first = export_untrained(NetworkSpec("compact", 32, 32), tmp_path / "bundle", labels=["lying", "standing"], seed=4)
    weights = str(tmp_path / "bundle" / MODEL_FILE)
    params = tiny_params(epochs=1, start_weights=weights)
    network = compile_network(network_spec(params, 2), params, 1)
    random = network.get_weights()
    assert load_start_weights(network, params) == first.version
    assert not all((one == other).all() for one, other in zip(random, network.get_weights(), strict=True))
    train(prepared, params, tmp_path / "state", tmp_path / "trained")
    assert load_trained(tmp_path / "trained")[1].started_from == first.version


@pytest.mark.usefixtures("short_compact")
def test_start_weights_that_do_not_fit_or_do_not_exist_are_reported(prepared: Path, tmp_path: Path) -> None:
    export_untrained(NetworkSpec("compact", 32, 32), tmp_path / "bundle", labels=["lying", "standing"])
    weights = str(tmp_path / "bundle" / MODEL_FILE)
    with pytest.raises(TrainingError, match=r"train\.start_weights: .*same architecture"):
        train(prepared, tiny_params(architecture="baseline_cnn", start_weights=weights), tmp_path, tmp_path / "o")
    with pytest.raises(TrainingError, match=r"train\.start_weights: cannot load 'nowhere"):
        train(prepared, tiny_params(start_weights="nowhere.keras"), tmp_path, tmp_path / "o")


def test_equal_seeds_give_equal_losses(prepared: Path, tmp_path: Path) -> None:
    params = tiny_params(architecture="baseline_cnn", epochs=1)
    one, other = (train(prepared, params, tmp_path / f"s{run}", tmp_path / f"o{run}").history[0] for run in (1, 2))
    assert other["loss"] == pytest.approx(one["loss"], abs=0.005)
    assert other["val_loss"] == pytest.approx(one["val_loss"], abs=0.005)


def test_training_stops_early_without_improvement(prepared: Path, tmp_path: Path) -> None:
    progress = train(
        prepared,
        tiny_params(architecture="baseline_cnn", epochs=9, patience=1, learning_rate=1e-9),
        tmp_path / "state",
        tmp_path / "out",
    )
    assert len(progress.history) < 9 or progress.best_epoch >= 8


@pytest.mark.parametrize("architecture", ["compact", "transfer"])
def test_training_images_grow_to_their_full_size(architecture: str) -> None:
    params = tiny_params(architecture=architecture, epochs=10, start_side_px=32, end_side_px=0)
    params = params.model_copy(update={"input": params.input.model_copy(update={"height": 96, "width": 96})})
    sides = [image_size(epoch, params)[0] for epoch in range(10)]
    assert sides[0] == 32
    assert sides == sorted(sides)
    assert sides[6:] == [96] * 4


def test_missing_prepared_images_are_reported(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="dvc repro prepare"):
        train(tmp_path, tiny_params(), tmp_path / "s", tmp_path / "o")
