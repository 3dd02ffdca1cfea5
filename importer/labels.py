"""Reads the labels of a network, in the order of its outputs."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from importer.request import ImportFailedError

_MAX_BYTES = 10_000_000
_NUMBERED = re.compile(r"(\d+)[ \t:,]+(.+)")
_HOW = (
    "Pass --labels with a list (cat,dog) or a file with one label per line, or --labels-from with the training folder"
)


def read_labels(labels: str | None, folder: str | None) -> list[str] | None:
    """The labels of `--labels` (a list or a file) or `--labels-from`; None if both are missing.

    Raises:
        ImportFailedError: they cannot be read, or both are given.
    """
    if labels is not None and folder is not None:
        raise ImportFailedError("--labels and --labels-from exclude each other: pass one of them.")
    if folder is not None:
        return _folder_names(Path(folder))
    if labels is None:
        return None
    path = Path(labels)
    if "," in labels and not path.is_file():
        return [part.strip() for part in labels.split(",")]
    if not path.is_file():
        raise ImportFailedError(f"{labels!r} is neither a list of labels such as cat,dog nor a file. {_HOW}.")
    return read_label_file(path)


def read_label_file(path: Path) -> list[str]:
    """The labels in a file: one per line, with or without their numbers, or JSON such as `class_indices.json`."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ImportFailedError(f"{path} is too large for a file of labels.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ImportFailedError(f"The labels in {path} cannot be read: {reason}.") from error
    if path.suffix == ".json" or text.lstrip().startswith(("{", "[")):
        return _from_json(path, text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    pairs = [(int(found[1]), found[2].strip()) for found in numbered if found]
    if len(pairs) == len(lines) and sorted(number for number, _ in pairs) == list(range(len(pairs))):
        return [label for _, label in sorted(pairs)]
    return lines


def check_labels(labels: Sequence[str] | None, expected: int) -> list[str]:
    """Warnings about labels that can be used.

    Raises:
        ImportFailedError: they are missing, too many or too few, empty or repeated, or there is only one.
    """
    if labels is None:
        raise ImportFailedError(f"The labels are missing; the network needs {expected}. {_HOW}.")
    if expected < 2 or len(labels) < 2:
        raise ImportFailedError("A classifier needs at least two labels, and there is only one.")
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        raise ImportFailedError(f"The label {repeated[0]!r} appears more than once: give each output its own label.")
    if "" in labels:
        raise ImportFailedError(f"Label {list(labels).index('')} is empty: give each output a label.")
    if len(labels) != expected:
        raise ImportFailedError(
            f"There are {len(labels)} labels, but the network needs {expected}: give one label for each output."
        )
    return _order_warnings(labels)


def _order_warnings(labels: Sequence[str]) -> list[str]:
    if all(label.isdecimal() for label in labels) and list(labels) != sorted(labels):
        by_number = sorted(labels, key=int)
        if list(labels) == by_number:
            text = ", ".join(sorted(labels)[:4])
            warning = (
                f"The labels are in numeric order. Keras sorts folder names as text ({text}, ...): if it made the "
                "labels, use --labels-from with the training folder."
            )
            return [warning]
    return []


def _folder_names(folder: Path) -> list[str]:
    """The names of the subfolders, in the order in which Keras numbers them."""
    if not folder.is_dir():
        raise ImportFailedError(f"--labels-from: {folder} is not a folder.")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise ImportFailedError(f"--labels-from: {folder} has no subfolders: one for each label is expected.")
    return names


def _from_json(path: Path, text: str) -> list[str]:
    wrong = f"{path} holds no labels: expected a list, an object of label and number, or one of number and label."
    try:
        found = json.loads(text)
        if isinstance(found, list):
            return [str(label) for label in found]
        if all(isinstance(value, int) for value in found.values()):
            by_number = {value: label for label, value in found.items()}
        else:
            by_number = {int(number): str(label) for number, label in found.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ImportFailedError(wrong) from error
    if len(by_number) != len(found) or sorted(by_number) != list(range(len(found))):
        raise ImportFailedError(f"{path}: the numbers of the labels are not 0 to {len(found) - 1}, each once.")
    return [by_number[number] for number in range(len(found))]
