"""Reads the frame size from an AV1 stream, because it may differ from the size in the header of an AVIF.

The names follow the AV1 specification, sections 5.3 and 5.5.
"""

from collections.abc import Iterable, Iterator

_SEQUENCE_HEADER = 1
#: A still image, or a tile of one, has one sequence header and about three units. All tiles have the same one.
_SEQUENCE_HEADERS_MAX = 20
_UNITS_MAX = 1_000
#: The longest sequence header, with 32 operating points.
_SEQUENCE_HEADER_BYTES = 512


class TooManyUnitsError(ValueError):
    """The streams have more units (OBUs) than any image."""


def frame_sizes(data: bytes, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the maximum width and height of frames, for each different sequence header of the streams at `spans`.

    Raises:
        IndexError: a stream is cut off.
        TooManyUnitsError: the streams have too many units.
    """
    units, headers = 0, set[bytes]()
    for first, end in spans:
        start = first
        while start < end:
            units += 1
            if units > _UNITS_MAX or len(headers) > _SEQUENCE_HEADERS_MAX:
                raise TooManyUnitsError
            head = data[start]
            start += 2 if head & 0x04 else 1
            size = end - start
            if head & 0x02:
                size, start = _leb128(data, start)
            if head >> 3 & 0x0F == _SEQUENCE_HEADER:
                header = data[start : start + min(size, _SEQUENCE_HEADER_BYTES)]
                if header not in headers:
                    headers.add(header)
                    yield _frame_size(header)
            start += size


def _leb128(data: bytes, start: int) -> tuple[int, int]:
    """A number in groups of 7 bits, and the position after it."""
    number = 0
    for place in range(8):
        byte = data[start + place]
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return number, start + place + 1


def _frame_size(header: bytes) -> tuple[int, int]:
    bits = _Bits(header)
    bits.take(3 + 1)  # seq_profile, still_picture
    if bits.take(1):  # reduced_still_picture_header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: "_Bits") -> None:
    delay_bits = 0
    if bits.take(1):  # timing_info_present_flag
        bits.take(64)
        if bits.take(1):  # equal_picture_interval
            bits.skip_uvlc()
        if bits.take(1):  # decoder_model_info_present_flag
            delay_bits = bits.take(5) + 1
            bits.take(32 + 5 + 5)
    has_display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:  # seq_level_idx
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if has_display_delay and bits.take(1):
            bits.take(4)


class _Bits:
    """Bits from the front of `data`; raises IndexError at its end."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The next `count` bits as a number."""
        self._left -= count
        if self._left < 0:
            raise IndexError
        return self._number >> self._left & (1 << count) - 1

    def skip_uvlc(self) -> None:
        """Skip a number that starts with as many zeros as it has bits after its first one."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        self.take(zeros)
