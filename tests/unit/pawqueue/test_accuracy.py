"""Accuracy, with the names of folders as true labels."""

from pathlib import Path

import pytest

from contract.share import wilson
from pawqueue.bulk.accuracy import Comparison, truth_of


@pytest.mark.parametrize(
    ("path", "truth"),
    [
        ("cat/1.jpg", "cat"),
        ("in/Cats/1.jpg", "cat"),
        ("in/dogs/day 2/1.jpg", "dog"),
        ("cats/dogs/1.jpg", "dog"),  # the nearest folder counts
        ("foxes/1.jpg", "fox"),
        ("puppies/1.jpg", "puppy"),
        ("catalog/1.jpg", None),
        ("misc/cat.jpg", None),
    ],
)
def test_the_true_label_comes_from_the_nearest_folder(path: str, truth: str | None) -> None:
    assert truth_of(Path(path), ["cat", "dog", "fox", "puppy"]) == truth


def test_the_true_label_of_a_bare_file_name_comes_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dogs").mkdir()
    monkeypatch.chdir(tmp_path / "dogs")
    assert truth_of(Path("1.jpg"), ["cat", "dog"]) == "dog"


def compared() -> Comparison:
    comparison = Comparison(["cat", "dog"])
    for truth, label, count in (("cat", "cat", 8), ("cat", "dog", 2), ("dog", "dog", 6), ("dog", "cat", 4)):
        for number in range(count):
            comparison.add(Path(truth) / f"{number}.jpg", f"{truth}/{number}", label, 0.5 + number / 100)
    return comparison


def test_scores_are_calculated_from_the_confusion_matrix() -> None:
    values = compared().to_dict()
    assert values["confusion_matrix"] == [[8, 2], [4, 6]]
    assert values["accuracy"] == 0.7
    assert values["by_label"]["cat"] == {
        "precision": pytest.approx(8 / 12),
        "recall": 0.8,
        "f1": pytest.approx(16 / 22),
        "pictures": 10,
    }
    assert values["macro_recall"] == pytest.approx(0.7)


def test_the_most_confident_mistakes_are_kept() -> None:
    comparison = compared()
    assert [(mistake.file, mistake.label) for mistake in comparison.mistakes][:2] == [
        ("dog/3", "cat"),
        ("dog/2", "cat"),
    ]
    for number in range(50):
        comparison.add(Path("cat/x.jpg"), str(number), "dog", 0.9)
    assert len(comparison.mistakes) == 10


def test_the_confidence_interval_narrows_with_more_images() -> None:
    low, high = wilson(95, 100)
    assert low == pytest.approx(0.8882, abs=1e-3)
    assert high == pytest.approx(0.9785, abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)
    wide, narrow = wilson(9, 10), wilson(900, 1000)
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
