"""Reads format, width and height from the header of an image, in a bounded number of steps.

The event loop of the gateway calls this for every upload, so each reader examines only a few bytes, whatever size the
image has or claims: at most 1,000 segments, boxes or directory entries, and never pixels. A reader accepts every image
that the worker's decoder accepts; if it accepts more, the job fails in the worker like that of an image with corrupt
pixels. See decisions/071.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from contract.errors import NotAnImageError, UnsupportedFormatError, UploadError
from gateway.accept import av1


class Header(NamedTuple):
    """Format and size from the header of an image."""

    #: One of `FORMATS`.
    format: str
    #: In pixels, before rotation. If a tile of a HEIC or AVIF is larger than the image, the size of that tile.
    width: int
    height: int


def read_header(data: bytes) -> Header | None:
    """The header of an image in a supported format; None for anything else.

    Raises:
        NotAnImageError: the header is corrupt or cut off.
        UnsupportedFormatError: a variant of the format that the worker does not decode.
    """
    form = format_of(data)
    if form is None:
        return None
    try:
        width, height = _READERS[form](data)
    except (struct.error, IndexError, OverflowError):
        raise NotAnImageError(
            f"The {NAMES[form]} is cut off: its header is not complete after {len(data):,} bytes. Send the whole file."
        ) from None
    if width < 1 or height < 1:
        raise _corrupt(form, f"it claims {width} x {height} pixels")
    return Header(form, width, height)


def format_of(data: bytes) -> str | None:
    """The format that the first bytes identify, by its name in Pillow; None if it is not supported."""
    if data.startswith(_JPEG_START):
        return "JPEG"
    if data[4:8] == b"ftyp":
        return _HEIF_BRANDS.get(data[8:12]) or _format_of_container(data)
    if data.startswith(b"RIFF"):
        return "WEBP" if data[8:12] == b"WEBP" else None
    return next((form for start, form in STARTS.items() if data.startswith(start)), None)


_JPEG_START = b"\xff\xd8"
#: The first bytes of files in most formats.
STARTS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II\x2a\0": "TIFF",
    b"MM\0\x2a": "TIFF",
    b"II\x2b\0": "TIFF",
    # Written by faulty programs: the number is in the other byte order. Pillow reads them.
    b"II\0\x2a": "TIFF",
    b"MM\x2a\0": "TIFF",
}
#: The usual names of the formats, for error messages.
NAMES = {
    "JPEG": "JPEG",
    "PNG": "PNG",
    "WEBP": "WebP",
    "HEIF": "HEIC",
    "AVIF": "AVIF",
    "BMP": "BMP",
    "GIF": "GIF",
    "TIFF": "TIFF",
}


def _cut_off(form: str, data: bytes, size: int) -> NotAnImageError:
    return NotAnImageError(f"The {NAMES[form]} is cut off after {len(data):,} of {size:,} bytes. Send the whole file.")


def _corrupt(form: str, reason: str) -> NotAnImageError:
    return NotAnImageError(
        f"The header of the {NAMES[form]} is corrupt: {reason}. Save the image again and send that file."
    )


def _unsupported(form: str, reason: str) -> UploadError:
    return UnsupportedFormatError(f"This {NAMES[form]} {reason}. Save it as an ordinary JPEG or PNG and send that.")


# JPEG

#: A segment: 0xFF, kind, length; a frame continues with depth, height, width, components.
_JPEG_SEGMENT = struct.Struct(">BBHBHHB")
#: A photograph with a large color profile or a second image has a few hundred.
_JPEG_SEGMENTS_MAX = 1_000
#: Maximum length of all bytes between segments.
_JPEG_JUNK_MAX = 16_384
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_JPEG_SCAN, _JPEG_RESTARTS = 0xDA, range(0xD0, 0xD8)
#: Baseline, extended, progressive, lossless, and the first two with arithmetic coding.
_JPEG_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA})
#: Differential and hierarchical frames, JPEG-LS.
_JPEG_RARE_FRAMES = frozenset({0xC5, 0xC6, 0xC7, 0xC8, 0xCB, 0xCD, 0xCE, 0xCF, 0xDE, 0xF7})
#: Tables, application data, comments and the like.
_JPEG_SEGMENTS = frozenset({0xC4, 0xCC, *range(0xDB, 0xFF)}) - _JPEG_RARE_FRAMES


def _jpeg(data: bytes) -> tuple[int, int]:
    position, junk = len(_JPEG_START), 0
    size, has_frame = (0, 0), False
    for _ in range(_JPEG_SEGMENTS_MAX):
        mark, kind, length, depth, height, width, components = _JPEG_SEGMENT.unpack_from(data, position)
        if mark != 0xFF or kind in (0, 0xFF):
            # Padding, or bytes that do not belong there. Decoders skip them.
            found = _JPEG_MARKER.search(data, position, position + _JPEG_JUNK_MAX - junk)
            if found is None:
                raise _corrupt("JPEG", "there is unexpected data between its segments")
            junk += found.start() - position
            position = found.start()
        elif kind in _JPEG_RESTARTS:
            position += 2
        elif kind in _JPEG_FRAMES and not has_frame:
            size, has_frame = (width, height), True
            _check_frame(depth, components, length)
            position += 2 + length
        elif kind in _JPEG_SEGMENTS:
            position += 2 + max(length, 2)  # decoders continue after a length that is too small
        elif kind == _JPEG_SCAN and has_frame:
            return size
        else:
            raise _no_frame(kind)
    raise _corrupt("JPEG", f"it has more than {_JPEG_SEGMENTS_MAX:,} segments before its image")


def _check_frame(depth: int, components: int, length: int) -> None:
    if depth != 8:
        raise _unsupported("JPEG", f"has {depth} bits per sample, not 8")
    if components not in (1, 3, 4) or length != 8 + 3 * components:
        raise _corrupt("JPEG", f"its frame has {components} components in {length} bytes")


def _no_frame(kind: int) -> UploadError:
    if kind in _JPEG_RARE_FRAMES:
        return _unsupported("JPEG", "uses a rare coding (hierarchical, or JPEG-LS)")
    return _corrupt("JPEG", "it has no frame, or a second one")


# PNG

#: The first chunk: length, kind, width, height, depth, color type, compression, filter, interlacing; checksum.
_PNG_HEADER = struct.Struct(">I4sIIBBBBBI")
_PNG_KIND_AT, _PNG_END_AT = 12, 29
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def _png(data: bytes) -> tuple[int, int]:
    length, kind, width, height, depth, color, _, filtering, _, checksum = _PNG_HEADER.unpack_from(data, 8)
    if kind == b"CgBI":
        raise _unsupported("PNG", "was converted for iOS by Xcode, which only Apple's programs read")
    if kind != b"IHDR" or length != 13:
        raise _corrupt("PNG", "it does not start with the chunk IHDR")
    if zlib.crc32(data[_PNG_KIND_AT:_PNG_END_AT]) != checksum:
        raise _corrupt("PNG", "the checksum of the chunk IHDR is wrong")
    if depth not in _PNG_DEPTHS.get(color, ()) or filtering:
        raise _corrupt("PNG", f"there is no color type {color} with {depth} bits and filter {filtering}")
    return width, height


# WebP

_WEBP_SIZE = struct.Struct("<I")


def _webp(data: bytes) -> tuple[int, int]:
    (size,) = _WEBP_SIZE.unpack_from(data, 4)
    kind = data[12:16]
    if len(data) < size + 8:
        raise _cut_off("WEBP", data, size + 8)
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    raise _corrupt("WEBP", "it does not start with an image chunk")


# GIF

_GIF_SCREEN = struct.Struct("<HHB")
#: Left, top, width, height.
_GIF_PLACE = struct.Struct("<HHHH")
_GIF_IMAGE, _GIF_EXTENSION, _GIF_END = b",!;"
_GIF_EXTENSIONS_MAX = 500
#: In all extensions. A block has at most 255 bytes.
_GIF_BLOCKS_MAX = 5_000


def _gif(data: bytes) -> tuple[int, int]:
    screen_width, screen_height, flags = _GIF_SCREEN.unpack_from(data, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    blocks = 0
    for _ in range(_GIF_EXTENSIONS_MAX):
        kind = data[position]
        if kind == _GIF_IMAGE:
            break
        if kind == _GIF_END:
            raise _corrupt("GIF", "it has no image")
        position += 1  # decoders skip bytes that do not belong there
        if kind == _GIF_EXTENSION:
            position += 1
            while (block := data[position]) and blocks < _GIF_BLOCKS_MAX:
                position += 1 + block
                blocks += 1
            position += 1
    else:
        blocks = _GIF_BLOCKS_MAX
    if blocks >= _GIF_BLOCKS_MAX:
        raise _corrupt("GIF", f"more than {_GIF_BLOCKS_MAX * 255:,} bytes of other data precede its first image")
    # The decoder enlarges the screen if the first image does not fit.
    left, top, width, height = _GIF_PLACE.unpack_from(data, position + 1)
    return max(screen_width, left + width), max(screen_height, top + height)


# BMP

_BMP_HEADER_SIZE = struct.Struct("<I")
#: OS/2 1: width, height, planes, bits.
_BMP_CORE = struct.Struct("<HHHH")
#: Windows, OS/2 2: width, height (negative if the rows run from top to bottom), planes, bits, compression.
_BMP_INFO = struct.Struct("<IiHHI")
_BMP_CORE_BYTES = 12
_BMP_INFO_BYTES = frozenset({40, 52, 56, 64, 108, 124})
_BMP_BITS = frozenset({1, 4, 8, 16, 24, 32})
#: None, two kinds of run lengths, masks for the colors.
_BMP_COMPRESSIONS = frozenset({0, 1, 2, 3})


def _bmp(data: bytes) -> tuple[int, int]:
    (size,) = _BMP_HEADER_SIZE.unpack_from(data, 14)
    compression = 0
    if size == _BMP_CORE_BYTES:
        width, height, _, bits = _BMP_CORE.unpack_from(data, 18)
    elif size in _BMP_INFO_BYTES:
        width, height, _, bits, compression = _BMP_INFO.unpack_from(data, 18)
    else:
        raise _corrupt("BMP", f"there is no BMP header of {size:,} bytes")
    if bits not in _BMP_BITS or compression not in _BMP_COMPRESSIONS:
        raise _unsupported("BMP", f"has {bits} bits per pixel and compression {compression}")
    return width, abs(height)


# TIFF

_TIFF_ENTRIES_MAX = 1_000
#: Maximum number of values of an entry, such as the offsets of strips or tiles. Decoders read all of them.
_TIFF_VALUES_MAX = 100_000
#: The tags of width and height.
_TIFF_SIDES = (256, 257)
#: Bytes, text and undefined bytes, such as a color profile, may be longer.
_TIFF_BYTES = frozenset({1, 2, 7})
#: Type of an entry: the format of an integer.
_TIFF_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}


def _tiff(data: bytes) -> tuple[int, int]:
    order = "<" if data.startswith(b"II") else ">"
    is_big = 0x2B in data[2:4]
    # Offset of the directory; number of entries; an entry: tag, type, number of values, and the value or its offset.
    if is_big:
        (start,), counter, entry = struct.unpack_from(f"{order}Q", data, 8), f"{order}Q", struct.Struct(f"{order}HHQ8s")
    else:
        (start,), counter, entry = struct.unpack_from(f"{order}I", data, 4), f"{order}H", struct.Struct(f"{order}HHI4s")
    (count,) = struct.unpack_from(counter, data, start)
    start += struct.calcsize(counter)
    if count > _TIFF_ENTRIES_MAX:
        raise _corrupt("TIFF", f"its directory has more than {_TIFF_ENTRIES_MAX:,} entries")
    sides: dict[int, tuple[int, int, bytes]] = {}
    # A truncated directory is read up to its end.
    present = min(count, (len(data) - start) // entry.size)
    for tag, kind, values, field in entry.iter_unpack(data[start : start + present * entry.size]):
        if values > _TIFF_VALUES_MAX and kind not in _TIFF_BYTES:
            raise _unsupported("TIFF", f"has more than {_TIFF_VALUES_MAX:,} strips, tiles or other values in one entry")
        if tag in _TIFF_SIDES:
            sides[tag] = kind, values, field
    width, height = (_tiff_integer(data, order, *sides.get(tag, (0, 0, b""))) for tag in _TIFF_SIDES)
    return width, height


def _tiff_integer(data: bytes, order: str, kind: int, values: int, field: bytes) -> int:
    """The value of an entry: in its field if it fits, else where the field points."""
    if values != 1 or kind not in _TIFF_INTEGERS:
        raise _corrupt("TIFF", "its width or height is missing or not a number")
    integer = struct.Struct(order + _TIFF_INTEGERS[kind])
    if integer.size > len(field):
        return int(integer.unpack_from(data, struct.unpack(f"{order}I", field)[0])[0])
    return int(integer.unpack_from(field)[0])


# HEIC and AVIF: boxes within boxes

#: The main brand of a file: its format. Files of other brands list theirs among the compatible ones.
_HEIF_BRANDS = dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIF"
) | dict.fromkeys((b"avif", b"avis"), "AVIF")
#: The brands of the container alone.
_HEIF_CONTAINERS = frozenset({b"mif1", b"msf1"})
_HEIF_BRANDS_MAX = 64
_BOX = struct.Struct(">I4s")
_BOXES_MAX = 100
#: Items are images, tiles and metadata; a photograph of 50 megapixels has 200. Each has about three properties.
_HEIF_ITEMS_MAX = 500
_HEIF_PROPERTIES_MAX = 2_500
#: An animation has one track for the colors, one for transparency, and perhaps sound.
_TRACKS_MAX = 8
#: At each level of a track; writers need about five.
_TRACK_BOXES_MAX = 20

#: Where the content of a box starts and ends.
_Span = tuple[int, int]


def _format_of_container(data: bytes) -> str | None:
    if data[8:12] not in _HEIF_CONTAINERS:
        return None
    end = min(int.from_bytes(data[:4], "big"), 16 + 4 * _HEIF_BRANDS_MAX)
    brands = {data[at : at + 4] for at in range(16, end, 4)}
    return "AVIF" if brands & {b"avif", b"avis"} else "HEIF"


def _heif(data: bytes) -> tuple[int, int]:
    parts = _read_parts(data, "HEIF")
    return _largest(parts.sizes, "HEIF")


def _avif(data: bytes) -> tuple[int, int]:
    # The decoder trusts the AV1 stream, so its frames count too. It takes the frames of an animation from its tracks.
    parts, tracks = _read_parts(data, "AVIF"), _read_tracks(data)
    try:
        frames = list(av1.frame_sizes(data, (*_item_spans(data, parts), *tracks.spans)))
    except av1.TooManyUnitsError:
        raise _corrupt("AVIF", "its AV1 streams have more than 1,000 units, or 20 different sequence headers") from None
    return _largest([*parts.sizes, *tracks.sizes, *frames], "AVIF")


def _largest(sizes: Sequence[tuple[int, int]], form: str) -> tuple[int, int]:
    if not sizes:
        raise _corrupt(form, "the size of its main image is missing")
    return min(sizes, key=min) if 0 in map(min, sizes) else max(sizes, key=lambda size: size[0] * size[1])


class _Parts(NamedTuple):
    """The main (primary) image, its tiles and its alpha channel; other images of the file are not decoded."""

    #: The ids of their items.
    items: frozenset[int] = frozenset()
    sizes: tuple[tuple[int, int], ...] = ()
    #: The boxes with the positions of the items' bytes.
    locations: _Span | None = None
    inner_data: _Span | None = None


class _Tracks(NamedTuple):
    """The tracks of an animation: their sizes and first frames."""

    sizes: list[tuple[int, int]]
    spans: list[_Span]


def _read_parts(data: bytes, form: str) -> _Parts:
    meta = _find(data, b"meta", (0, len(data)), form)
    if meta is None:
        return _Parts()
    media = _find(data, b"mdat", (meta[1], len(data)), form)
    if media and media[1] > len(data):
        raise _cut_off(form, data, media[1])
    boxes = dict(reversed(list(_boxes(data, (meta[0] + 4, meta[1]), form))))  # the first of a kind counts
    primary, properties = boxes.get(b"pitm"), boxes.get(b"iprp")
    contents = properties and _find(data, b"ipco", properties, form)
    owners = properties and _find(data, b"ipma", properties, form)
    if primary is None or contents is None or owners is None:
        return _Parts()
    (main,) = struct.unpack_from(">I" if data[primary[0]] else ">H", data, primary[0] + 4)
    places = {
        number: span[0] + 4
        for number, (kind, span) in enumerate(_boxes(data, contents, form, _HEIF_ITEMS_MAX), start=1)
        if kind == b"ispe"
    }
    items = _items_of(data, main, boxes.get(b"iref"), form)
    owned = [numbers for item, numbers in _properties(data, owners, form) if item in items]
    used_places = {places[number] for numbers in owned for number in numbers if number in places}
    sizes = tuple(struct.unpack_from(">II", data, place) for place in used_places)
    return _Parts(frozenset(items), sizes, boxes.get(b"iloc"), boxes.get(b"idat"))


def _items_of(data: bytes, main: int, references: _Span | None, form: str) -> set[int]:
    """The items that the decoder combines into item `main`, and `main` itself."""
    if references is None:
        return {main}
    letter = "I" if data[references[0]] else "H"
    head = struct.Struct(f">{letter}H")
    made_of: dict[int, list[int]] = {}
    total = 0
    for kind, (start, _) in _boxes(data, (references[0] + 4, references[1]), form, _HEIF_ITEMS_MAX):
        if kind not in (b"dimg", b"auxl"):
            continue
        source, count = head.unpack_from(data, start)
        total += count
        if total > _HEIF_ITEMS_MAX:
            raise _corrupt(form, f"it has more than {_HEIF_ITEMS_MAX:,} references between its items")
        targets = struct.unpack_from(f">{count}{letter}", data, start + head.size)
        if kind == b"dimg":
            made_of.setdefault(source, []).extend(targets)
        else:
            for target in targets:
                made_of.setdefault(target, []).append(source)
    used, pending = {main}, [main]
    while pending:
        new = set(made_of.pop(pending.pop(), ())) - used
        used |= new
        pending += new
    return used


def _properties(data: bytes, owners: _Span, form: str) -> Iterator[tuple[int, list[int]]]:
    """Yield each item with the numbers of its properties, from the box `ipma`."""
    version, flags, count = data[owners[0]], data[owners[0] + 3], struct.unpack_from(">I", data, owners[0] + 4)[0]
    head = struct.Struct(">IB" if version else ">HB")
    # The top bit of a number marks properties that a reader must support.
    letter, size, mask = ("H", 2, 0x7FFF) if flags & 1 else ("B", 1, 0x7F)
    position, total = owners[0] + 8, 0
    for _ in range(min(count, _HEIF_ITEMS_MAX)):
        item, owned = head.unpack_from(data, position)
        numbers = struct.unpack_from(f">{owned}{letter}", data, position + head.size)
        yield item, [number & mask for number in numbers]
        position += head.size + owned * size
        total += owned
        if total > _HEIF_PROPERTIES_MAX:
            break
    else:
        if count <= _HEIF_ITEMS_MAX:
            return
    raise _corrupt(form, f"it has more than {_HEIF_ITEMS_MAX:,} items")


def _item_spans(data: bytes, parts: _Parts) -> Iterator[_Span]:
    """The positions of the parts' bytes, from the box `iloc`."""
    if parts.locations is None:
        return
    start = parts.locations[0]
    version, widths, more_widths = data[start], data[start + 4], data[start + 5]
    number = {0: "", 4: "I", 8: "Q"}
    id_letter = "I" if version == 2 else "H"
    (count,) = struct.unpack_from(f">{id_letter}", data, start + 6)
    # Item, how it is stored, in which file, base offset, number of pieces; a piece: index, offset, length.
    try:
        base, offset, length = number[more_widths >> 4], number[widths >> 4], number[widths & 15]
        index = number[more_widths & 15] if version else ""
    except KeyError:
        raise _corrupt("AVIF", "the positions of its images are missing") from None
    head = struct.Struct(f">{id_letter}{'H' if version else ''}H{base}H")
    piece = struct.Struct(f">{index}{offset}{length}")
    position = start + 6 + struct.calcsize(f">{id_letter}")
    for _ in range(min(count, _HEIF_ITEMS_MAX)):
        item, *fields, pieces = head.unpack_from(data, position)
        position += head.size
        if item in parts.items and pieces:
            if pieces > 1 or not offset or not length:
                raise _unsupported("AVIF", "has an image that is stored in several pieces")
            *_, first, size = piece.unpack_from(data, position)
            is_inner = version and fields[0] & 15 == 1 and parts.inner_data
            first += (fields[-1] if base else 0) + (parts.inner_data[0] if is_inner and parts.inner_data else 0)
            yield first, first + size
        position += pieces * piece.size


def _read_tracks(data: bytes) -> _Tracks:
    movie = _find(data, b"moov", (0, len(data)), "AVIF")
    tracks = _Tracks([], [])
    for kind, track in _boxes(data, movie, "AVIF", _TRACKS_MAX + _TRACK_BOXES_MAX) if movie else ():
        if kind != b"trak":
            continue
        if head := _find(data, b"tkhd", track, "AVIF", _TRACK_BOXES_MAX):
            # The last two fields, with 16 bits after the point.
            width, height = struct.unpack_from(">II", data, head[1] - 8)
            if width and height:  # an audio track has no size
                tracks.sizes.append((width >> 16, height >> 16))
        if table := _find_path(data, (b"mdia", b"minf", b"stbl"), track):
            tracks.spans.extend(_first_frame(data, table))
    return tracks


def _first_frame(data: bytes, table: _Span) -> Iterator[_Span]:
    boxes = dict(_boxes(data, table, "AVIF", _TRACK_BOXES_MAX))
    sizes, chunks, far_chunks = boxes.get(b"stsz"), boxes.get(b"stco"), boxes.get(b"co64")
    if sizes and (place := chunks or far_chunks):
        (start,) = struct.unpack_from(">I" if chunks else ">Q", data, place[0] + 8)
        same_size, _, first_size = struct.unpack_from(">III", data, sizes[0] + 4)
        yield start, start + (same_size or first_size)


def _find_path(data: bytes, path: Sequence[bytes], within: _Span) -> _Span | None:
    """The content of a box within boxes."""
    found: _Span | None = within
    for kind in path:
        found = found and _find(data, kind, found, "AVIF", _TRACK_BOXES_MAX)
    return found


def _find(data: bytes, wanted: bytes, within: _Span, form: str, limit: int = _BOXES_MAX) -> _Span | None:
    """The content of the first box of a kind."""
    return next((span for kind, span in _boxes(data, within, form, limit) if kind == wanted), None)


def _boxes(data: bytes, within: _Span, form: str, limit: int = _BOXES_MAX) -> Iterator[tuple[bytes, _Span]]:
    """Yield kind and content of each box between two positions; the content may end after the data does."""
    position, end = within
    for _ in range(limit):
        if end - position < _BOX.size:
            return
        size, kind = _BOX.unpack_from(data, position)
        start = position + _BOX.size
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        following = position + size if size else end
        if following < start:
            raise _corrupt(form, "one of its boxes is smaller than a box header")
        yield kind, (start, following)
        position = following
    raise _corrupt(form, f"it has more than {limit:,} boxes at one level")


_READERS: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "AVIF": _avif,
    "HEIF": _heif,
    "BMP": _bmp,
    "GIF": _gif,
    "TIFF": _tiff,
}
#: Supported formats, by their names in Pillow.
FORMATS = tuple(_READERS)
