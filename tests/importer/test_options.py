"""Labels and scales are read as users write them, or refused with a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest

from importer.labels import check_labels, read_labels
from importer.request import ImportFailedError
from importer.scale import SCALES, parse_scale


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("labels.txt", "cat\ndog\n\n", ["cat", "dog"]),
        ("labels.txt", "0 Cat\n1 Big dog\n", ["Cat", "Big dog"]),
        ("labels.txt", "1 b\n0 a\n", ["a", "b"]),
        ("labels.txt", "3 legs\n4 legs\n", ["3 legs", "4 legs"]),
        ("class_indices.json", '{"dog": 1, "cat": 0}', ["cat", "dog"]),
        ("labels.json", '{"0": "cat", "1": "dog"}', ["cat", "dog"]),
        ("labels.json", '["cat", "dog"]', ["cat", "dog"]),
        ("labels.txt", "\ufeffcat\ndog", ["cat", "dog"]),
    ],
)
def test_labels_are_read_from_files_of_each_form(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    assert read_labels(write(tmp_path / name, text), None) == expected


def test_labels_are_read_from_a_list_and_from_the_training_folder(tmp_path: Path) -> None:
    assert read_labels("cat, dog", None) == ["cat", "dog"]
    for name in ("2", "10", "1", ".cache"):
        (tmp_path / name).mkdir()
    assert read_labels(None, str(tmp_path)) == ["1", "10", "2"]
    assert read_labels(None, None) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"cat": 0, "dog": 0}', "numbers"),
        ('{"cat": 1, "dog": 2}', "numbers"),
        ("{", "no labels"),
        ('"cat"', "no labels"),
    ],
)
def test_a_file_without_usable_labels_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path / "labels.json", text)
    with pytest.raises(ImportFailedError, match=reason) as caught:
        read_labels(path, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "count", "reason"),
    [
        (None, 3, "labels are missing; the network needs 3"),
        (["cat"], 1, "at least two"),
        (["cat", "cat"], 2, "'cat' appears more than once"),
        (["cat", ""], 2, "Label 1 is empty"),
        (["cat", "dog"], 3, "2 labels, but the network needs 3"),
    ],
)
def test_wrong_labels_are_refused(labels: list[str] | None, count: int, reason: str) -> None:
    with pytest.raises(ImportFailedError, match=reason):
        check_labels(labels, count)


def test_numbers_in_numeric_order_are_warned_of() -> None:
    numbers = [str(number) for number in range(1, 11)]
    (warning,) = check_labels(numbers, 10)
    assert "Keras sorts folder names as text (1, 10, 2, 3, ...)" in warning
    assert check_labels(sorted(numbers), 10) == []
    assert check_labels(["0", "1", "2"], 3) == []


def test_a_list_and_a_folder_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ImportFailedError, match="exclude each other"):
        read_labels("cat,dog", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "pixel", "expected"),
    [
        ("none", 200.0, 200.0),
        ("0..1", 255.0, 1.0),
        ("-1..1", 0.0, -1.0),
        ("100/50", 200.0, 2.0),
        ("imagenet", 123.675, [0.0, 0.12948, 0.35113]),
        ("100,110,120/10,20,30", 130.0, [3.0, 1.0, 1 / 3]),
    ],
)
def test_a_scale_is_applied_as_it_says(text: str, pixel: float, expected: float | list[float]) -> None:
    scale = parse_scale(text)
    assert np.allclose(pixel * np.array(scale.factors) + np.array(scale.offsets), expected, atol=1e-4)


def test_caffe_swaps_the_colors() -> None:
    assert SCALES["caffe"].bgr
    assert not SCALES["imagenet"].bgr


@pytest.mark.parametrize("text", ["255", "0..2", "1,2/3", "1/0", "a/b", "0.485,0.456,0.406/0.229,0.224,0.225"])
def test_an_unknown_scale_is_refused(text: str) -> None:
    with pytest.raises(ImportFailedError, match="--scale"):
        parse_scale(text)


def test_the_error_for_fractions_says_what_to_do() -> None:
    with pytest.raises(ImportFailedError, match="Multiply them by 255"):
        parse_scale("0.5/0.25")


def test_labels_in_json_keep_their_order_by_number(tmp_path: Path) -> None:
    names = {f"label {number}": number for number in range(11)}
    path = write(tmp_path / "class_indices.json", json.dumps(dict(sorted(names.items()))))
    assert read_labels(path, None) == list(names)
