"""A short run of the fuzzer, with the same cases each time."""

import sys

import pytest

from tests.fuzz.run import fuzz


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_damaged_images_are_decoded_or_rejected_within_their_limits() -> None:
    findings, counts, _ = fuzz(40, cases=4000)
    assert findings == []
    assert counts["decoded"] > 0
    assert counts["rejected by the decoder"] > 0
