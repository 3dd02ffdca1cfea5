"""Compares labels with the truth that folders tell: `cats/01.jpg` is a cat."""

import heapq
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Most mistakes that are kept, the most confident ones.
MOST_MISTAKES = 10
_Z_95 = 1.959964


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """A wrong label; mistakes sort by how sure the model was."""

    confidence: float
    file: str
    truth: str
    label: str


@dataclass(frozen=True, slots=True)
class LabelScores:
    """How well one label was found, each 0..1; 0 where nothing was there to be found."""

    precision: float
    recall: float
    f1: float
    #: Images whose truth it is.
    images: int


@dataclass(slots=True)
class Comparison:
    """Counts of images by truth and label."""

    #: What the model can say.
    labels: list[str]
    #: By (truth, label).
    cells: Counter[tuple[str, str]] = field(default_factory=Counter)
    mistakes: list[Mistake] = field(default_factory=list)
    #: Images with a truth and without a prediction.
    unpredicted: int = 0
    #: Images in folders that are named after no label.
    untold: int = 0

    def add(self, path: Path, file: str, label: str, confidence: float | None) -> None:
        """Count one image; no `label`: it has no prediction."""
        truth = truth_of(path, self.labels)
        if truth is None:
            self.untold += 1
        elif not label:
            self.unpredicted += 1
        else:
            self.cells[truth, label] += 1
            if truth != label:
                self._keep(Mistake(confidence or 0.0, file, truth, label))

    @property
    def total(self) -> int:
        """Images that have both a truth and a label."""
        return self.cells.total()

    @property
    def right(self) -> int:
        return sum(count for (truth, label), count in self.cells.items() if truth == label)

    @property
    def accuracy(self) -> float:
        """Share of images with the right label, 0..1; 0 when there are none."""
        return self.right / self.total if self.total else 0.0

    def accuracy_interval(self) -> tuple[float, float]:
        """Where the accuracy lies with 95 % confidence, from this many images (Wilson's interval)."""
        return wilson(self.right, self.total)

    def scores(self) -> dict[str, LabelScores]:
        """Precision, recall and F1 by label."""
        return {label: self._scores_of(label) for label in self.labels}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for programs."""
        low, high = self.accuracy_interval()
        scores = self.scores()
        means = {
            name: _mean([getattr(score, name) for score in scores.values() if score.images])
            for name in ("precision", "recall", "f1")
        }
        return {
            "pictures": self.total,
            "accuracy": self.accuracy,
            "accuracy_interval_95": [low, high],
            **{f"macro_{name}": value for name, value in means.items()},
            "by_label": {
                label: {"precision": s.precision, "recall": s.recall, "f1": s.f1, "pictures": s.images}
                for label, s in scores.items()
            },
            "labels": self.labels,
            "confusion_matrix": [[self.cells[truth, label] for label in self.labels] for truth in self.labels],
            "without_prediction": self.unpredicted,
            "without_truth": self.untold,
        }

    def _scores_of(self, label: str) -> LabelScores:
        hits = self.cells[label, label]
        said = sum(count for (_, other), count in self.cells.items() if other == label)
        there = sum(count for (truth, _), count in self.cells.items() if truth == label)
        precision, recall = hits / said if said else 0.0, hits / there if there else 0.0
        f1 = 2 * hits / (said + there) if said + there else 0.0
        return LabelScores(precision, recall, f1, there)

    def _keep(self, mistake: Mistake) -> None:
        self.mistakes = heapq.nlargest(MOST_MISTAKES, [*self.mistakes, mistake])


def truth_of(path: Path, labels: Iterable[str]) -> str | None:
    """The label after which the nearest folder above a file is named, in the singular or the plural, in any case."""
    by_name = {form: label for label in labels for form in _forms(label)}
    names = path.parts[:-1] or path.absolute().parts[:-1]
    return next((by_name[name.casefold()] for name in reversed(names) if name.casefold() in by_name), None)


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; (0, 1) when there is nothing to go by."""
    if not total:
        return 0.0, 1.0
    share, spread = hits / total, _Z_95**2 / total
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def _forms(label: str) -> tuple[str, ...]:
    name = label.casefold()
    return name, f"{name}s", f"{name}es", f"{name[:-1]}ies" if name.endswith("y") else name


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
