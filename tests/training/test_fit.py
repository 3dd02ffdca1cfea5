"""Training: killed at any point it goes on and ends as if never killed; the same seed gives the same images."""

from pathlib import Path

import numpy as np
import pytest

from bundle.manifest import MODEL_FILE
from tests.training.drawn import ROOT, tiny_params
from training import fit
from training.augment import at_strength, augment
from training.batches import Batches, variation_strength
from training.checkpoint import load_trained
from training.errors import TrainingError
from training.export_untrained import export_untrained
from training.network import NetworkSpec
from training.params import read_params
from training.prepared import read_split


def test_prepared_splits_are_whole_and_sized_for_their_use(prepared: Path) -> None:
    sizes = {name: read_split(prepared, name) for name in ("train", "validation", "test")}
    assert sum(len(split.facts) for split in sizes.values()) == 120
    assert sizes["train"].pixels.shape[1:] == (40, 40, 3)
    assert sizes["test"].pixels.shape[1:] == (32, 32, 3)
    assert sizes["test"].labels == ["lying", "standing"]
    assert (prepared / "contact-lying.jpg").is_file()


def test_augmented_images_depend_on_the_seed_alone(prepared: Path) -> None:
    strong = read_params(ROOT / "params.yaml").augment
    pixels = read_split(prepared, "train").pixels[0]
    drawn = [augment(pixels, 48, 32, strong, np.random.default_rng((1, seed))) for seed in range(60)]
    again = [augment(pixels, 48, 32, strong, np.random.default_rng((1, seed))) for seed in range(60)]
    assert all(image.shape == (48, 32, 3) and image.dtype == np.uint8 for image in drawn)
    assert all((one == other).all() for one, other in zip(drawn, again, strict=True))
    assert len({image.tobytes() for image in drawn}) == 60


def test_variations_grow_stronger() -> None:
    params = tiny_params(epochs=10)
    params = params.model_copy(update={"augment": params.augment.model_copy(update={"full_after": 0.5, "jpeg": 0.4})})
    strengths = [variation_strength(epoch, params) for epoch in range(10)]
    assert strengths[0] == 0.25
    assert strengths == sorted(strengths)
    assert strengths[5:] == [1.0] * 5
    assert at_strength(params.augment, 1.0) == params.augment
    assert at_strength(params.augment, 0.5).jpeg == 0.2


def test_batches_repeat_within_an_epoch_and_differ_between_epochs(prepared: Path) -> None:
    split, params = read_split(prepared, "train"), tiny_params()
    params = params.model_copy(update={"augment": params.augment.model_copy(update={"mixup": 0.2})})
    one, same, other = (Batches(split, params, epoch, (32, 32)) for epoch in (0, 0, 1))
    assert (one[1][0] == same[1][0]).all()
    assert not (one[1][0] == other[1][0]).all()
    reseeded = params.model_copy(update={"train": params.train.model_copy(update={"seed": params.train.seed + 1})})
    assert not (one[1][0] == Batches(split, reseeded, 0, (32, 32))[1][0]).all()
    assert one[1][1].shape == (16, 1)


@pytest.mark.usefixtures("short_compact")
def test_a_killed_run_goes_on_and_ends_like_one_never_killed(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tiny_params()
    whole = fit.train(prepared, params, tmp_path / "state-1", tmp_path / "whole")
    run_epoch = fit._run_epoch

    def killed(network, checkpoint, progress, *rest):  # type: ignore[no-untyped-def]
        if progress.epoch == 2:
            raise KeyboardInterrupt
        return run_epoch(network, checkpoint, progress, *rest)

    monkeypatch.setattr(fit, "_run_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        fit.train(prepared, params, tmp_path / "state-2", tmp_path / "resumed")
    monkeypatch.setattr(fit, "_run_epoch", run_epoch)
    assert not (tmp_path / "resumed").exists()
    resumed = fit.train(prepared, params, tmp_path / "state-2", tmp_path / "resumed")
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3]
    for row, expected in zip(resumed.history, whole.history, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], abs=0.02)
        assert row["val_loss"] == pytest.approx(expected["val_loss"], abs=0.02)
    pixels = read_split(prepared, "test").pixels
    answers = [fit.predict(load_trained(tmp_path / run)[0], pixels) for run in ("whole", "resumed")]
    assert np.abs(answers[0] - answers[1]).max() < 0.05
    assert not (tmp_path / "state-2").exists()


def test_a_checkpoint_of_other_parameters_is_not_gone_on_with(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.checkpoint.Checkpoint.finish", lambda *_: None)
    fit.train(prepared, tiny_params(architecture="baseline_cnn", epochs=1), tmp_path / "state", tmp_path / "out")
    changed = fit.train(
        prepared, tiny_params(architecture="baseline_cnn", epochs=1, dropout=0.3), tmp_path / "state", tmp_path / "out"
    )
    assert [row["epoch"] for row in changed.history] == [1]


@pytest.mark.usefixtures("short_compact")
def test_a_run_goes_on_from_the_weights_of_another(prepared: Path, tmp_path: Path) -> None:
    first = export_untrained(NetworkSpec("compact", 32, 32), tmp_path / "bundle", labels=["lying", "standing"], seed=4)
    weights = str(tmp_path / "bundle" / MODEL_FILE)
    params = tiny_params(epochs=1, start_weights=weights)
    network = fit.compile_network(fit.network_spec(params, 2), params, 1)
    drawn = network.get_weights()
    assert fit.start_from(network, params) == first.version
    assert not all((one == other).all() for one, other in zip(drawn, network.get_weights(), strict=True))
    fit.train(prepared, params, tmp_path / "state", tmp_path / "trained")
    assert load_trained(tmp_path / "trained")[1].started_from == first.version
    with pytest.raises(TrainingError, match=r"train\.start_weights: .*same architecture"):
        fit.train(prepared, tiny_params(architecture="baseline_cnn", start_weights=weights), tmp_path, tmp_path / "o")
    with pytest.raises(TrainingError, match=r"train\.start_weights: 'nowhere"):
        fit.train(prepared, tiny_params(start_weights="nowhere.keras"), tmp_path, tmp_path / "o")


def test_the_same_seed_gives_the_same_figures(prepared: Path, tmp_path: Path) -> None:
    params = tiny_params(architecture="baseline_cnn", epochs=1)
    one, other = (fit.train(prepared, params, tmp_path / f"s{run}", tmp_path / f"o{run}").history[0] for run in (1, 2))
    assert other["loss"] == pytest.approx(one["loss"], abs=0.005)
    assert other["val_loss"] == pytest.approx(one["val_loss"], abs=0.005)


def test_training_stops_early_when_nothing_gets_better(prepared: Path, tmp_path: Path) -> None:
    done = fit.train(
        prepared,
        tiny_params(architecture="baseline_cnn", epochs=9, patience=1, learning_rate=1e-9),
        tmp_path / "state",
        tmp_path / "out",
    )
    assert len(done.history) < 9 or done.best_epoch >= 8


def test_pictures_grow_to_their_full_size() -> None:
    params = tiny_params(epochs=10, start_side_px=32, end_side_px=0)
    params = params.model_copy(update={"input": params.input.model_copy(update={"height": 96, "width": 96})})
    sides = [fit.image_size(epoch, params)[0] for epoch in range(10)]
    assert sides[0] == 32
    assert sides == sorted(sides)
    assert sides[6:] == [96] * 4


def test_unknown_architectures_and_missing_images_are_one_sentence(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"train\.architecture"):
        fit.train(prepared, tiny_params(architecture="huge"), tmp_path / "s", tmp_path / "o")
    with pytest.raises(TrainingError, match="dvc repro prepare"):
        fit.train(tmp_path, tiny_params(), tmp_path / "s", tmp_path / "o")
