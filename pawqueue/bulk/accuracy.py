"""Compares predicted labels with true labels, which are taken from folder names: `cats/01.jpg` is a cat."""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.share import wilson

#: Number of mistakes kept.
MAX_MISTAKES = 10


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """A wrong prediction; mistakes sort by confidence."""

    confidence: float
    file: str
    truth: str
    label: str


@dataclass(frozen=True, slots=True)
class LabelScores:
    """The scores of one label, each 0..1; 0 if undefined."""

    precision: float
    recall: float
    f1: float
    #: Images with this true label.
    images: int


@dataclass(slots=True)
class Comparison:
    """Counts of images by true and predicted label."""

    #: The labels of the model.
    labels: list[str]
    #: The confusion matrix, by (true label, predicted label).
    cells: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: The most confident mistakes.
    mistakes: list[Mistake] = field(default_factory=list)
    #: Images with a true label but no prediction.
    without_prediction: int = 0
    #: Images in folders that are not named after a label.
    without_truth: int = 0

    def add(self, path: Path, file: str, label: str, confidence: float | None) -> None:
        """Count an image; `label` is empty if there is no prediction."""
        truth = truth_of(path, self.labels)
        if truth is None:
            self.without_truth += 1
        elif not label:
            self.without_prediction += 1
        else:
            self.cells[truth, label] += 1
            if truth != label:
                mistake = Mistake(confidence or 0.0, file, truth, label)
                self.mistakes = heapq.nlargest(MAX_MISTAKES, [*self.mistakes, mistake])

    @property
    def total(self) -> int:
        """Images with both a true and a predicted label."""
        return self.cells.total()

    @property
    def correct(self) -> int:
        return sum(count for (truth, label), count in self.cells.items() if truth == label)

    @property
    def accuracy(self) -> float:
        """Share of correct predictions, 0..1; 0 if there are no images."""
        return self.correct / self.total if self.total else 0.0

    def accuracy_interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy."""
        return wilson(self.correct, self.total)

    def scores(self) -> dict[str, LabelScores]:
        """Precision, recall and F1 by label."""
        return {label: self._scores_of(label) for label in self.labels}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        scores = self.scores()
        means = {
            name: _mean([getattr(score, name) for score in scores.values() if score.images])
            for name in ("precision", "recall", "f1")
        }
        return {
            "pictures": self.total,
            "accuracy": self.accuracy,
            "accuracy_interval_95": list(self.accuracy_interval()),
            **{f"macro_{name}": value for name, value in means.items()},
            "by_label": {
                label: {"precision": s.precision, "recall": s.recall, "f1": s.f1, "pictures": s.images}
                for label, s in scores.items()
            },
            "labels": self.labels,
            "confusion_matrix": [[self.cells[truth, label] for label in self.labels] for truth in self.labels],
            "without_prediction": self.without_prediction,
            "without_truth": self.without_truth,
        }

    def _scores_of(self, label: str) -> LabelScores:
        hits = self.cells[label, label]
        predicted = sum(count for (_, other), count in self.cells.items() if other == label)
        actual = sum(count for (truth, _), count in self.cells.items() if truth == label)
        precision, recall = hits / predicted if predicted else 0.0, hits / actual if actual else 0.0
        f1 = 2 * hits / (predicted + actual) if predicted + actual else 0.0
        return LabelScores(precision, recall, f1, actual)


def truth_of(path: Path, labels: Iterable[str]) -> str | None:
    """The label that the nearest parent folder is named after, in singular or plural and any case."""
    by_name = {form: label for label in labels for form in _forms(label)}
    names = path.parts[:-1] or path.absolute().parts[:-1]
    return next((by_name[name.casefold()] for name in reversed(names) if name.casefold() in by_name), None)


def _forms(label: str) -> tuple[str, ...]:
    name = label.casefold()
    return name, f"{name}s", f"{name}es", f"{name[:-1]}ies" if name.endswith("y") else name


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
