"""A short run of the fuzzer, with the same cases each time."""

import sys
from typing import Any

import pytest

from bundle.decode import UndecodableImageError, decode
from tests.fuzz.cases import case, seeds
from tests.fuzz.run import fuzz
from worker.pipeline.guard import Guard

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits memory and confines processes as Linux does"),
]


def test_whole_and_damaged_images_have_the_same_result_in_a_confined_process() -> None:
    guard = Guard(limit_s=60, max_pixels=50_000_000)

    def result(how: Any, data: bytes) -> Any:
        try:
            image = how(data, 48, 64)
        except UndecodableImageError as error:
            return str(error)
        return image.width, image.height, image.warnings, image.pixels.tobytes()

    whole = [(form, image) for form, images in seeds().items() for image in images]
    different = [
        number
        for number, (_, data) in enumerate(whole + [case(number) for number in range(400)])
        if result(guard.decode, data) != result(decode, data)
    ]
    guard.stop()
    assert different == []


def test_damaged_images_are_decoded_or_rejected_within_their_limits() -> None:
    findings, counts, _ = fuzz(40, cases=4000)
    assert findings == []
    assert counts["decoded"] > 0
    assert counts["rejected by the decoder"] > 0
