"""Unusable images are dropped with a reason, and near-duplicates share a split."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.training.synthetic import striped_jpeg, tiny_params
from training.data.sources import LabeledFile
from training.data.survey import group_near_duplicates, survey
from training.errors import TrainingError

PARAMS = tiny_params().prepare


def files(count: int, labels: tuple[str, ...] = ("cat", "dog")) -> list[LabeledFile]:
    return [
        LabeledFile(f"{label}/{seed}.jpg", label, striped_jpeg(index, seed))
        for index, label in enumerate(labels)
        for seed in range(count)
    ]


def compressed(data: bytes, quality: int) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).save(file, "JPEG", quality=quality)
    return file.getvalue()


def test_broken_tiny_and_copied_images_are_dropped_with_a_reason() -> None:
    good = files(30)
    unusable = [
        LabeledFile("cat/broken.jpg", "cat", good[0].data[:200]),
        LabeledFile("cat/text.jpg", "cat", b"not an image"),
        LabeledFile("cat/tiny.jpg", "cat", striped_jpeg(0, 99, side=8)),
        LabeledFile("cat/copy.jpg", "cat", good[1].data),
    ]
    dropped = {image.name: image.dropped for image in survey(good + unusable, PARAMS) if image.dropped}
    assert dropped.keys() == {file.name for file in unusable}
    assert dropped["cat/broken.jpg"].startswith("broken:")
    assert dropped["cat/tiny.jpg"] == "tiny: 8 x 8 px"
    assert dropped["cat/copy.jpg"] == "copy of cat/1.jpg"


def test_copies_with_different_labels_are_all_dropped() -> None:
    good = files(30)
    images = survey([*good, LabeledFile("dog/mislabeled.jpg", "dog", good[0].data)], PARAMS)
    assert {image.name for image in images if image.dropped} == {"cat/0.jpg", "dog/mislabeled.jpg"}


def test_near_duplicates_share_a_split() -> None:
    good = files(40)
    recompressed = [LabeledFile(f"recompressed/{file.name}", file.label, compressed(file.data, 95)) for file in good]
    split = {image.name: image.split for image in survey(good + recompressed, PARAMS)}
    assert all(split[file.name] == split[f"recompressed/{file.name}"] for file in good)


def test_adding_images_does_not_move_others_between_splits() -> None:
    few = {image.name: image.split for image in survey(files(30), PARAMS)}
    many = {image.name: image.split for image in survey(files(90), PARAMS)}
    assert {name: many[name] for name in few} == few


def test_the_seed_determines_the_split() -> None:
    other = PARAMS.model_copy(update={"seed": 8})
    assert survey(files(30), PARAMS) == survey(files(30), PARAMS)
    first, second = ([image.split for image in survey(files(30), params)] for params in (PARAMS, other))
    assert first != second


def test_at_most_max_per_class_images_of_each_class_are_kept() -> None:
    images = survey(files(90), PARAMS.model_copy(update={"max_per_class": 40}))
    assert sorted(image.label for image in images if not image.dropped) == ["cat"] * 40 + ["dog"] * 40


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (files(20, ("cat",)), "only the class 'cat'"),
        ([], "no usable images"),
        (files(9), "class 'cat' has 9 usable images. Each class needs at least 10"),
    ],
)
def test_too_few_classes_or_images_are_reported(images: list[LabeledFile], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        survey(images, PARAMS)


def test_ten_images_of_a_class_are_enough_for_all_splits() -> None:
    images = survey(files(10, ("cat", "dog", "hare")), PARAMS.model_copy(update={"test": 0.05, "validation": 0.05}))
    assert {(image.label, image.split) for image in images} == {
        (label, split) for label in ("cat", "dog", "hare") for split in ("train", "validation", "test")
    }


def test_chains_of_near_duplicates_form_one_group() -> None:
    hashes = np.array([0b0000, 0b0011, 0b1111, 1 << 40 | 0xFFFF], dtype=np.uint64)
    assert group_near_duplicates(hashes, 2).tolist() == [0, 0, 0, 3]
