"""McNemar's exact test, also of many images. Its values are compared with SciPy's in the tests of training."""

import pytest

from contract.share import mcnemar


def test_mcnemar_of_many_images_is_exact() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(50_000, 50_000) == 1.0
    assert mcnemar(0, 1_000) == pytest.approx(2.0**-999)
    assert mcnemar(49_000, 51_000) == mcnemar(51_000, 49_000) == pytest.approx(2.57e-10, rel=0.01)
