"""Damaged images and random bytes are decoded or rejected with an expected error."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.decode import FORMATS, UndecodableImageError, decode
from contract.errors import TooManyPixelsError, UploadError
from gateway.accept.check import UploadLimits, check_upload
from tests.support.hostile import small_image

_WHOLE = {form: small_image(form) for form in FORMATS}
_LIMITS = UploadLimits(max_bytes=1_000_000, max_pixels=5_000_000)
_SETTINGS = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@st.composite
def damaged(draw: st.DrawFn, forms: Sequence[str] = FORMATS) -> bytes:
    """An image with some bytes changed, removed or inserted, or with its end cut off."""
    data = bytearray(_WHOLE[draw(st.sampled_from(forms))])
    # Headers are damaged more often than pixels.
    positions = st.one_of(st.integers(0, 60), st.integers(0, len(data) - 1))
    for position in draw(st.lists(positions, min_size=1, max_size=6)):
        data[position % len(data)] = draw(st.integers(0, 255))
    start, length = draw(positions), draw(st.integers(0, 40))
    data[start : start + length] = draw(st.binary(max_size=40))
    return bytes(data[: draw(st.integers(1, len(data)))]) if draw(st.booleans()) else bytes(data)


def is_accepted(data: bytes) -> bool:
    """Whether the gateway accepts the bytes. Any exception other than `UploadError` is a bug."""
    try:
        check_upload(data, _LIMITS)
    except UploadError as error:
        assert str(error).endswith(".")
        return False
    return True


def check(data: bytes) -> None:
    if not is_accepted(data):
        return
    try:
        pixels = decode(data, 8, 8).pixels
    except UndecodableImageError:
        return
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8


@_SETTINGS
@given(damaged())
def test_damaged_images_are_decoded_or_rejected(data: bytes) -> None:
    check(data)


# libheif decodes a HEIC that is cut off, and leaves tiles out. The gateway rejects it.
@_SETTINGS
@given(damaged([form for form in FORMATS if form not in ("HEIF", "AVIF")]))
def test_the_gateway_rejects_only_what_the_worker_cannot_decode(data: bytes) -> None:
    try:
        check_upload(data, _LIMITS)
    except TooManyPixelsError:
        return
    except UploadError as error:
        if "more than" not in str(error):  # a limit
            with pytest.raises(UndecodableImageError):
                decode(data, 8, 8)


@_SETTINGS
@given(st.binary(max_size=2000), st.sampled_from(["", *FORMATS]))
def test_noise_after_an_image_header_is_decoded_or_rejected(noise: bytes, form: str) -> None:
    check((_WHOLE[form][:24] if form else b"") + noise)
