"""The figures that a model is judged by are those of scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

from tests.unit.training.test_measure import answers_and_truth
from training.measure import FIGURES, confusion, precision_recall_f1


@pytest.mark.parametrize("classes", [2, 3])
def test_figures_are_those_of_scikit_learn(classes: int) -> None:
    answers, truth = answers_and_truth(classes)
    said = answers.argmax(axis=1)
    assert FIGURES["accuracy"](answers, truth) == pytest.approx(sk.accuracy_score(truth, said))
    assert FIGURES["log_loss"](answers, truth) == pytest.approx(sk.log_loss(truth, answers))
    assert FIGURES["f1"](answers, truth) == pytest.approx(sk.f1_score(truth, said, average="macro"))
    area = sk.roc_auc_score(truth, answers[:, 1] if classes == 2 else answers, multi_class="ovr")
    assert FIGURES["auc"](answers, truth) == pytest.approx(area)
    assert (confusion(answers, truth) == sk.confusion_matrix(truth, said)).all()
    expected = sk.precision_recall_fscore_support(truth, said)[:3]
    assert precision_recall_f1(confusion(answers, truth)) == pytest.approx(np.stack(expected, axis=1))
