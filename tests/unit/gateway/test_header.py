"""Format and size from an image's header: the same as Pillow reads, in a bounded time for any input."""

import io
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from contract.errors import NotAnImageError, UnsupportedFormatError, UploadError
from gateway.accept.header import FORMATS, Header, read_header
from tests.support.boxes import box, heic
from tests.support.images import encode

SIZE = (321, 123)
PHOTO = Image.radial_gradient("L").resize(SIZE).convert("RGB")
OTHER = PHOTO.transpose(Image.Transpose.ROTATE_180)


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def jpeg_segments(*segments: bytes) -> bytes:
    """A JPEG with these bytes after its start."""
    return b"\xff\xd8" + b"".join(segments) + encode(PHOTO, "JPEG")[2:]


def comment(length: int) -> bytes:
    return b"\xff\xfe" + struct.pack(">H", length + 2) + b"c" * length


def bmp(header_bytes: int, bits: int = 24, height: int = SIZE[1]) -> bytes:
    """A BMP with a header of this length."""
    if header_bytes == 12:
        header = struct.pack("<IHHHH", 12, SIZE[0], height, 1, bits)
    else:
        header = struct.pack("<IIiHHIIIIII", header_bytes, SIZE[0], height, 1, bits, 0, 0, 0, 0, 0, 0)
    start = 14 + header_bytes + 1024
    rows = (SIZE[0] * bits + 31) // 32 * 4 * abs(height)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + header.ljust(header_bytes, b"\0") + bytes(1024 + rows)


def tiff(order: str = "<", *, big: bool = False, magic: bytes = b"", kind: int = 4, at_end: bool = False) -> bytes:
    """A grey TIFF, with its directory before or after the pixels, and width and height of the type `kind`."""
    letter = {3: "H", 4: "I", 9: "i", 16: "Q"}[kind]
    pixels = bytes(SIZE[0] * SIZE[1])
    head_bytes, count, entry, field = (16, "Q", "HHQ", 8) if big else (8, "H", "HHI", 4)
    values = {256: SIZE[0], 257: SIZE[1], 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: SIZE[1], 279: len(pixels)}
    directory_bytes = struct.calcsize(f"={count}") + len(values) * struct.calcsize(f"={entry}{field}s") + field
    outside = b""
    directory_at = head_bytes + len(pixels) if at_end else head_bytes
    values[273] = head_bytes if at_end else head_bytes + directory_bytes
    outside_at = head_bytes + len(pixels) + directory_bytes
    directory = struct.pack(f"{order}{count}", len(values))
    for tag, value in values.items():
        form = kind if tag in (256, 257) else 4
        packed = struct.pack(order + (letter if tag in (256, 257) else "I"), value)
        if len(packed) > field:
            packed, outside = struct.pack(f"{order}I", outside_at + len(outside)), outside + packed
        directory += struct.pack(f"{order}{entry}{field}s", tag, form, 1, packed)
    directory += bytes(field)
    start = magic or {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}H", 43 if big else 42)
    head = start + (struct.pack(f"{order}HHQ", 8, 0, directory_at) if big else struct.pack(f"{order}I", directory_at))
    return head + (pixels + directory if at_end else directory + pixels) + outside


def interlaced_png() -> bytes:
    data = bytearray(encode(PHOTO))
    data[28] = 1
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def gif_larger_than_its_screen() -> bytes:
    data = bytearray(encode(PHOTO, "GIF"))
    data[6:10] = struct.pack("<HH", 10, 10)
    return bytes(data)


#: Name -> an image, as Pillow or a camera writes it.
IMAGES: dict[str, Callable[[], bytes]] = {
    **{f"JPEG {mode}": lambda mode=mode: encode(PHOTO.convert(mode), "JPEG") for mode in ("L", "RGB", "CMYK")},
    **{f"JPEG turned {n}": lambda n=n: encode(PHOTO, "JPEG", exif=exif(n)) for n in range(1, 9)},
    "JPEG progressive": lambda: encode(PHOTO, "JPEG", progressive=True),
    "JPEG with restarts": lambda: encode(PHOTO, "JPEG", restart_marker_blocks=4),
    "JPEG with a profile of 3 MB": lambda: encode(PHOTO, "JPEG", icc_profile=bytes(3_000_000)),
    "JPEG with XMP": lambda: encode(PHOTO, "JPEG", xmp=b"x" * 60_000),
    "JPEG with 13 MB of comments": lambda: jpeg_segments(comment(65_533) * 200),
    "JPEG with padding between segments": lambda: jpeg_segments(b"\xff" * 300, comment(5), b"\xff\xff\xff", comment(5)),
    "JPEG with bytes between segments": lambda: jpeg_segments(comment(5), b"\0abc\xff\0", comment(5)),
    "JPEG with a segment without a length": lambda: jpeg_segments(b"\xff\xe1\0\0abcd", comment(5)),
    "JPEG with a second image": lambda: encode(PHOTO, "MPO", save_all=True, append_images=[OTHER]),
    **{
        f"PNG {m}": lambda m=m: encode(PHOTO.convert("L").convert(m))
        for m in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    },
    "PNG interlaced": interlaced_png,
    "PNG animated": lambda: encode(PHOTO, save_all=True, append_images=[OTHER]),
    "PNG with a profile": lambda: encode(PHOTO, icc_profile=bytes(100_000), exif=exif(6)),
    "WebP VP8": lambda: encode(PHOTO, "WEBP"),
    "WebP VP8L": lambda: encode(PHOTO, "WEBP", lossless=True),
    "WebP VP8X": lambda: encode(PHOTO.convert("RGBA"), "WEBP", exif=exif(6), icc_profile=bytes(500)),
    "WebP of one pixel": lambda: encode(PHOTO.crop((0, 0, 1, 1)), "WEBP", lossless=True),
    "WebP animated": lambda: encode(PHOTO, "WEBP", save_all=True, append_images=[OTHER]),
    "GIF": lambda: encode(PHOTO, "GIF"),
    "GIF animated with a comment": lambda: encode(
        PHOTO, "GIF", save_all=True, append_images=[OTHER], comment=b"c" * 9000, loop=0, transparency=3
    ),
    "GIF larger than its screen": gif_larger_than_its_screen,
    **{f"BMP {mode}": lambda mode=mode: encode(PHOTO.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")},
    **{f"BMP header of {size}": lambda size=size: bmp(size) for size in (12, 40, 52, 56, 64, 108, 124)},
    **{f"BMP of {bits} bits": lambda bits=bits: bmp(40, bits) for bits in (1, 4, 8, 16, 32)},
    "BMP from top to bottom": lambda: bmp(40, height=-SIZE[1]),
    **{
        f"TIFF {mode}": lambda mode=mode: encode(PHOTO.convert("L").convert(mode), "TIFF")
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B", "I", "F")
    },
    **{
        f"TIFF {packed}": lambda packed=packed: encode(PHOTO, "TIFF", compression=packed)
        for packed in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma", "zstd")
    },
    **{f"TIFF turned {n}": lambda n=n: encode(PHOTO, "TIFF", exif=exif(n)) for n in range(1, 9)},
    "TIFF of pages": lambda: encode(PHOTO.copy(), "TIFF", save_all=True, append_images=[PHOTO.rotate(180)]),
    "TIFF with a profile": lambda: encode(PHOTO, "TIFF", icc_profile=bytes(500_000)),
    "TIFF big-endian": lambda: tiff(">"),
    "TIFF with its directory at the end": lambda: tiff(at_end=True),
    "TIFF with 16-bit sides": lambda: tiff(kind=3),
    "TIFF with 16-bit sides, big-endian": lambda: tiff(">", kind=3, at_end=True),
    "TIFF with signed sides": lambda: tiff(kind=9),
    "TIFF with 64-bit sides": lambda: tiff(kind=16),
    "TIFF with its magic number swapped": lambda: tiff(magic=b"II\0\x2a"),
    "TIFF big-endian with its magic number swapped": lambda: tiff(">", magic=b"MM\x2a\0"),
    "BigTIFF": lambda: tiff(big=True),
    "BigTIFF with 64-bit sides": lambda: tiff(big=True, kind=16, at_end=True),
    "BigTIFF of Pillow": lambda: encode(PHOTO, "TIFF", big_tiff=True),
    **{
        f"AVIF {mode}": lambda mode=mode: encode(PHOTO.convert(mode), "AVIF", speed=10) for mode in ("L", "RGB", "RGBA")
    },
    **{f"AVIF turned {n}": lambda n=n: encode(PHOTO, "AVIF", speed=10, exif=exif(n)) for n in (3, 5, 6)},
    "AVIF animated": lambda: encode(PHOTO, "AVIF", speed=10, save_all=True, append_images=[OTHER]),
}


def opened_size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return image.size


@pytest.mark.parametrize("name", IMAGES)
def test_the_size_is_the_one_that_pillow_reads(name: str) -> None:
    data = IMAGES[name]()
    header = read_header(data)
    assert header is not None
    kind = name.split(maxsplit=1)[0]
    assert header.format == {"WebP": "WEBP", "BigTIFF": "TIFF"}.get(kind, kind)
    assert sorted(header[1:]) == sorted(opened_size(data))  # Pillow has turned some of them


def heif(size: tuple[int, int] = SIZE, **options: Any) -> bytes:
    return encode(PHOTO.resize(size), "HEIF", enc_params={"preset": "ultrafast"}, **options)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_the_size_of_a_heic_is_that_of_its_coded_image(mode: str) -> None:
    # HEVC codes an even number of pixels; the HEIC states how many of them to show.
    assert read_header(encode(PHOTO.convert(mode), "HEIF", enc_params={"preset": "ultrafast"})) == ("HEIF", 322, 124)


def test_the_size_of_a_tiled_heic_is_that_of_the_whole_image() -> None:
    assert read_header(heif(tile_size=64)) == ("HEIF", *SIZE)


def test_only_the_main_image_of_a_heic_counts() -> None:
    with_thumbnail = heif((640, 480), thumbnails=[128])
    assert read_header(with_thumbnail) == ("HEIF", 640, 480)
    for primary, expected in ((0, (640, 480)), (1, (64, 64))):
        images = encode(PHOTO.resize((640, 480)), "HEIF", save_all=True, append_images=[PHOTO.resize((64, 64))],
                        primary_index=primary, enc_params={"preset": "ultrafast"})  # fmt: skip
        assert read_header(images) == ("HEIF", *expected)


def test_a_tile_or_alpha_channel_that_is_larger_than_the_image_counts() -> None:
    sizes = [(64, 64), (9000, 8000)]
    assert read_header(heic(sizes)) == ("HEIF", 64, 64)
    for kind, source, target in ((b"dimg", 1, 2), (b"auxl", 2, 1)):
        assert read_header(heic(sizes, box(kind, struct.pack(">HHH", source, 1, target)))) == ("HEIF", 9000, 8000)
    assert read_header(heic(sizes, box(b"thmb", struct.pack(">HHH", 2, 1, 1)))) == ("HEIF", 64, 64)


def test_the_frames_of_an_animated_avif_count() -> None:
    data = IMAGES["AVIF animated"]()
    smaller = data.replace(
        b"ispe" + bytes(4) + struct.pack(">II", *SIZE), b"ispe" + bytes(4) + struct.pack(">II", 9, 9)
    )
    assert smaller != data
    assert read_header(smaller) == ("AVIF", *SIZE)


def bits(*fields: tuple[int, int]) -> bytes:
    """Numbers of the given widths in bits, padded with zeros."""
    text = "".join(f"{number:0{count}b}" for count, number in fields)
    return int(text.ljust(-len(text) % 8 + len(text), "0"), 2).to_bytes((len(text) + 7) // 8, "big")


def avif_of(stream: bytes, *, inner: bool = False, pieces: int = 1) -> bytes:
    """An AVIF of 64 x 64 pixels that contains an AV1 stream, in the box `mdat` or `idat`."""

    def written(at: int) -> bytes:
        method = int(inner)
        spans = struct.pack(">II", at, len(stream)) * pieces
        location = b"\1\0\0\0\x44\0\0\1" + struct.pack(">HHHH", 1, method, 0, pieces) + spans
        more = box(b"iloc", location) + (box(b"idat", stream) if inner else b"")
        return heic([(64, 64)], brand=b"avif", more=more) + (b"" if inner else box(b"mdat", stream))

    return written(0 if inner else len(written(0)) - len(stream))


REDUCED = bits((3, 0), (1, 1), (1, 1), (5, 0), (4, 13), (4, 13), (14, 16_000 - 1), (14, 9000 - 1))
#: With timing, a decoder model, and two operating points.
FULL = bits(
    (3, 0), (1, 0), (1, 0), (1, 1), (32, 1), (32, 30), (1, 1), (5, 0b00101), (1, 1), (5, 9), (32, 1), (5, 9),
    (5, 9), (1, 1),
    (5, 1), (12, 0), (5, 9), (1, 0), (1, 1), (10, 1), (10, 1), (1, 0), (1, 1), (4, 2), (12, 1), (5, 4), (1, 0), (1, 0),
    (4, 13), (4, 13), (14, 16_000 - 1), (14, 9000 - 1),
)  # fmt: skip


def unit(kind: int, content: bytes) -> bytes:
    return bytes((kind << 3 | 2, len(content))) + content


@pytest.mark.parametrize("header", [REDUCED, FULL], ids=["reduced", "full"])
@pytest.mark.parametrize("inner", [False, True], ids=["mdat", "idat"])
def test_the_frames_of_an_av1_stream_count_if_they_are_larger_than_the_avif_claims(header: bytes, inner: bool) -> None:
    small = bits((3, 0), (1, 1), (1, 1), (5, 0), (4, 5), (4, 5), (6, 63), (6, 63))
    assert read_header(avif_of(unit(2, b"") + unit(1, small), inner=inner)) == ("AVIF", 64, 64)
    for stream in (
        unit(1, header),
        unit(2, b"") + unit(1, small) + unit(6, b"frame") + unit(1, header),
        b"\x08" + header,
    ):
        assert read_header(avif_of(stream, inner=inner)) == ("AVIF", 16_000, 9000)


def test_the_frames_of_pillows_avif_have_the_size_of_the_image() -> None:
    large = encode(Image.new("RGB", (3000, 2000)), "AVIF", speed=10)
    claimed = large.replace(
        b"ispe" + bytes(4) + struct.pack(">II", 3000, 2000), b"ispe" + bytes(4) + bytes((0, 0, 0, 9) * 2)
    )
    assert claimed != large
    assert read_header(claimed) == ("AVIF", 3000, 2000)
    film = encode(
        Image.new("RGB", (640, 480)), "AVIF", speed=10, save_all=True, append_images=[PHOTO.resize((640, 480))]
    )
    claimed = film.replace(struct.pack(">II", 640, 480), struct.pack(">II", 64, 48))
    claimed = claimed.replace(struct.pack(">II", 640 << 16, 480 << 16), struct.pack(">II", 64 << 16, 48 << 16))
    assert claimed != film
    assert read_header(claimed) == ("AVIF", 640, 480)


def test_an_avif_whose_stream_is_in_pieces_is_rejected() -> None:
    with pytest.raises(UnsupportedFormatError, match="several pieces"):
        read_header(avif_of(unit(1, REDUCED), pieces=2))


def test_the_brands_of_a_container_decide_between_heic_and_avif() -> None:
    data = IMAGES["AVIF RGB"]()
    assert read_header(data[:8] + b"mif1" + data[12:]) == ("AVIF", *SIZE)
    data = heif((64, 64))
    assert read_header(data[:8] + b"mif1" + data[12:]) == ("HEIF", 64, 64)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x89PNG\r\n\x1a\n", "The PNG is cut off"),
        (b"\x89PNG\r\n\x1a\n" + encode(PHOTO)[8:32] + b"?" + encode(PHOTO)[33:], "checksum"),
        (b"\xff\xd8\xff\xe0", "The JPEG is cut off"),
        (encode(PHOTO, "WEBP")[:-4], "The WebP is cut off after"),
        (b"GIF89a", "The GIF is cut off"),
        (b"II*\0\xff\xff\xff\x7f", "The TIFF is cut off"),
        (b"II\x2b\0\x08\0\0\0" + b"\xff" * 8, "The TIFF is cut off"),
        (heif((64, 64))[:-40], "The HEIC is cut off after"),
        (heif((64, 64))[:200], "The HEIC is cut off"),
        (b"\0\0\0\x14ftypheic\0\0\0\0mif1", "the size of its main image is missing"),
        (b"\xff\xd8" + bytes(100_000), "unexpected data between its segments"),
        (heic([(0, 9)]), "it claims 0 x 9 pixels"),
        (heic([(0, 9)], brand=b"avif"), "it claims 0 x 9 pixels"),
        (b"GIF89a\1\0\1\0\0\0\0;", "it has no image"),
        (b"BM" + bytes(12) + b"\x10\0\0\0" + bytes(90), "no BMP header of 16 bytes"),
        (tiff()[:8] + b"\0\0", "width or height is missing"),
    ],
)
def test_a_broken_header_is_rejected_with_the_reason(data: bytes, problem: str) -> None:
    with pytest.raises(NotAnImageError) as raised:
        read_header(data)
    assert problem in str(raised.value)
    assert str(raised.value).endswith(("Send the whole file.", "Save the image again and send that file."))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\xff\xd8\xff\xc0\0\x11\x0c\0\x10\0\x10\3" + bytes(20), "12 bits per sample"),
        (b"\xff\xd8\xff\xf7\0\x11\x08\0\x10\0\x10\3" + bytes(20), "JPEG-LS"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\x04CgBI" + bytes(40), "converted for iOS"),
        (bmp(40, 24)[:30] + b"\4" + bytes(60), "compression 4"),
    ],
)
def test_a_variant_that_no_worker_decodes_is_rejected(data: bytes, problem: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=problem):
        read_header(data)


#: Images whose header claims or has far more parts than any image.
_ENTRY = struct.pack("<HHII", 256, 3, 1, 64)
_ISPE = box(b"ispe", bytes(4) + struct.pack(">II", 64, 64))
_BOXES = box(b"free", b"") * 18
MASSES = {
    "TIFF of two million strips": b"II*\0\x08\0\0\0\3\0" + _ENTRY + b"\1" + _ENTRY[1:]
    + struct.pack("<HHII", 273, 4, 2_000_000, 100) + bytes(8_000_000),
    "TIFF of 65,535 entries": b"II*\0\x08\0\0\0\xff\xff" + _ENTRY * 65_535,
    "JPEG of empty segments": b"\xff\xd8" + b"\xff\xe0\0\2" * 500_000,
    "JPEG of restarts": b"\xff\xd8" + b"\xff\xd0" * 1_000_000,
    "JPEG of padding": b"\xff\xd8" + b"\xff" * 10_000_000,
    "JPEG of noise": b"\xff\xd8" + b"\xff\0a" * 3_000_000,
    "JPEG of segments with noise between": b"\xff\xd8" + b"\xff\xff\xff\xfe\0\2a" * 500_000,
    "GIF of blocks": b"GIF89a\1\0\1\0\0\0\0!\xfe" + b"\1a" * 2_000_000,
    "GIF of extensions": b"GIF89a\1\0\1\0\0\0\0" + b"!\xfe\0" * 1_000_000,
    "GIF of noise": b"GIF89a\1\0\1\0\0\0\0" + b"a" * 2_000_000,
    "HEIC of boxes": b"\0\0\0\x10ftypheic\0\0\0\0" + box(b"free", b"") * 1_000_000,
    "HEIC of sizes": heic([(64, 64)] * 20_000),
    "HEIC of references": heic([(64, 64)], box(b"dimg", struct.pack(">HHH", 1, 1, 1)) * 20_000),
    "AVIF of units": avif_of(unit(2, b"") * 1_000_000),
    "AVIF of sequence headers": avif_of(unit(1, FULL) * 100_000),
    "AVIF of different sequence headers": avif_of(b"".join(unit(1, FULL + bytes((shade,))) for shade in range(200))),
    "AVIF of tracks": box(b"ftyp", b"avif" + bytes(4) + b"avif") + box(b"moov", box(b"trak", _BOXES) * 90),
    "AVIF of boxes in a track": box(b"ftyp", b"avif" + bytes(4) + b"avif") + box(b"moov", box(b"trak", _BOXES * 5)),
    "HEIC of properties": heic([(64, 64)], owners=struct.pack(">I", 1000) + b"\0\1\xff".ljust(258, b"\1") * 1000),
}  # fmt: skip


@pytest.mark.parametrize("name", MASSES)
def test_a_header_with_too_many_parts_is_rejected_quickly(name: str) -> None:
    best_s = 9.0
    for _ in range(3):
        started_s = time.thread_time()
        with pytest.raises(UploadError, match=r"more than|unexpected data"):
            read_header(MASSES[name])
        best_s = min(best_s, time.thread_time() - started_s)
    assert best_s < 0.01  # it takes less than a millisecond; reading all of it takes a hundred times as long


def test_a_png_with_many_empty_chunks_is_read_without_reading_them() -> None:
    data = encode(PHOTO)
    started_s = time.thread_time()
    assert read_header(data[:33] + b"\0\0\0\0tEXt\0\0\0\0" * 1_000_000 + data[33:]) == ("PNG", *SIZE)
    assert time.thread_time() - started_s < 0.1


_STARTS = [b"", b"\xff\xd8", *(image()[:40] for name, image in IMAGES.items() if name in ("BMP RGB", "AVIF RGB"))]


@settings(derandomize=True, deadline=None)
@given(st.sampled_from([*_STARTS, b"II*\0\x08\0\0\0", b"GIF89a", b"RIFF\0\0\0\0WEBP"]), st.binary(max_size=300))
def test_arbitrary_bytes_have_a_size_or_an_error(start: bytes, rest: bytes) -> None:
    try:
        header = read_header(start + rest)
    except UploadError:
        return
    assert header is None or (isinstance(header, Header) and min(header.width, header.height) > 0)
