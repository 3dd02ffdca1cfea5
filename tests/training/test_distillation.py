"""A network learns from the probabilities of a teacher, which sees the same augmented images."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from bundle.manifest import MODEL_FILE
from tests.training.synthetic import tiny_params
from training.data.batches import Batches
from training.data.splits import ImageFacts, Split, read_split
from training.data.teacher import load_teacher
from training.errors import TrainingError
from training.networks.architectures import NetworkSpec, build_network, predict
from training.networks.checkpoint import load_trained
from training.params import Params
from training.release.bundling import BundleFacts, write_bundle
from training.release.untrained import export_untrained
from training.stages.train import train

LABELS = ["lying", "standing"]
#: The teacher does not accept images of the student's size, 32 px.
SIDE = 48


def write_teacher(folder: Path, labels: list[str] = LABELS, seed: int = 3) -> str:
    """Write a bundle with random weights and return its version."""
    spec = NetworkSpec("baseline_cnn", SIDE, SIDE, classes=len(labels))
    return export_untrained(spec, folder, labels=labels, seed=seed).version


def student_of(teacher: Path, **train: object) -> Params:
    return tiny_params(architecture="baseline_cnn", epochs=2, teacher=str(teacher), **train)


def random_split(labels: list[str]) -> Split:
    facts = [ImageFacts(f"{n}.jpg", labels[n % len(labels)], str(n), 40, 40) for n in range(20)]
    return Split(np.random.default_rng(0).integers(0, 256, (20, 40, 40, 3), np.uint8), facts, labels)


@pytest.mark.parametrize("labels", [LABELS, ["crossed", *LABELS]])
def test_targets_are_mixed_from_the_labels_and_the_teachers_probabilities(labels: list[str], tmp_path: Path) -> None:
    write_teacher(tmp_path / "teacher", labels)
    split, params = random_split(labels), student_of(tmp_path / "teacher", distill=0.75)
    teacher = load_teacher(params.train.teacher, labels, jit_compile=False)
    seen_by_teacher, hard = Batches(split, params, 0, (SIDE, SIDE))[0]
    pixels, targets = Batches(split, params, 0, (32, 32), teacher)[0]
    soft = predict(keras.saving.load_model(tmp_path / "teacher" / MODEL_FILE), seen_by_teacher)
    assert pixels.shape == (16, 32, 32, 3)
    assert targets == pytest.approx(0.75 * (soft if len(labels) > 2 else soft[:, 1:]) + 0.25 * hard, abs=1e-5)


def test_a_student_of_the_teacher_alone_repeats_it_against_the_labels(prepared: Path, tmp_path: Path) -> None:
    network = build_network(NetworkSpec("baseline_cnn", SIDE, SIDE))
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([0 * kernel, bias + 4])  # the teacher sees only standing stripes
    version = write_bundle(network, BundleFacts(name="stripes", labels=LABELS), tmp_path / "teacher").version
    params = student_of(tmp_path / "teacher" / MODEL_FILE, distill=1.0, label_smoothing=0.0)
    train(prepared, params, tmp_path / "state", tmp_path / "trained")
    student, record = load_trained(tmp_path / "trained")
    assert record.teacher == version
    assert predict(student, read_split(prepared, "test").pixels)[:, 1].min() > 0.6


def test_a_checkpoint_with_another_teacher_is_ignored(
    prepared: Path, tmp_path: Path, interrupted: Callable[..., None]
) -> None:
    params = student_of(tmp_path / "teacher")
    write_teacher(tmp_path / "teacher")
    interrupted(2, prepared, params, tmp_path / "state", tmp_path / "out")
    interrupted(2, prepared, params, tmp_path / "state", tmp_path / "out")  # resumes after epoch 1
    write_teacher(tmp_path / "teacher", seed=4)
    interrupted(1, prepared, params, tmp_path / "state", tmp_path / "out")  # starts again


def missing(folder: Path) -> None:
    pass


def of_other_labels(folder: Path) -> None:
    write_teacher(folder, ["cat", "dog"])


def damaged(folder: Path) -> None:
    write_teacher(folder)
    (folder / MODEL_FILE).write_bytes(b"damaged")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (missing, r"train\.teacher: there is no bundle at .*teacher\. Set it to"),
        (of_other_labels, r"train\.teacher: .* has the labels cat, dog, but the data has lying, standing\."),
        (damaged, r"train\.teacher: .*model\.keras differs from its checksum"),
    ],
)
def test_an_unusable_teacher_is_reported_before_training(
    prepared: Path, tmp_path: Path, make: Callable[[Path], None], expected: str
) -> None:
    make(tmp_path / "teacher")
    with pytest.raises(TrainingError, match=expected):
        train(prepared, student_of(tmp_path / "teacher"), tmp_path / "state", tmp_path / "out")
    assert not (tmp_path / "state").exists()
