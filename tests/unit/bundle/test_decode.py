"""The image decoder."""

import io
import struct
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pillow_heif import from_bytes, from_pillow

from bundle.decode import FORMATS, UndecodableImageError, decode
from bundle.features import brightness_contrast
from tests.support.images import draw, encode

RED = (200, 30, 30)


def mean(data: bytes) -> Any:
    return decode(data, 8, 8).pixels.mean(axis=(0, 1))


@pytest.mark.parametrize("form", FORMATS)
def test_every_supported_format_decodes_to_the_same_color(form: str) -> None:
    decoded = decode(draw((40, 30), RED, form), 16, 24)
    assert decoded.pixels.shape == (16, 24, 3)
    assert decoded.pixels.dtype == np.uint8
    assert (decoded.width, decoded.height) == (40, 30)
    assert np.abs(decoded.pixels.mean(axis=(0, 1)) - RED).max() < 6


@pytest.mark.parametrize(
    ("mode", "color", "form", "expected"),
    [
        ("L", 120, "PNG", (120, 120, 120)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("LA", (120, 255), "PNG", (120, 120, 120)),
        ("RGBA", (200, 30, 30, 255), "PNG", RED),
        ("RGBA", (200, 30, 30, 0), "PNG", (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), "PNG", (127, 127, 127)),
        ("I;16", 40_000, "PNG", (156, 156, 156)),
        ("I;16", 40_000, "TIFF", (156, 156, 156)),
        ("F", 0.5, "TIFF", (127, 127, 127)),
        ("CMYK", (0, 255, 255, 0), "JPEG", (254, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0)),
    ],
)
def test_every_pixel_mode_is_converted_to_rgb(mode: str, color: Any, form: str, expected: tuple[int, int, int]) -> None:
    assert np.abs(mean(draw((32, 32), color, form, mode)) - expected).max() <= 3


def test_a_palette_image_keeps_its_colors_and_transparency() -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 200, 30, 30])
    assert np.abs(mean(encode(image)) - RED).max() <= 1
    assert np.abs(mean(encode(image, transparency=1)) - 255).max() <= 1


def test_an_animation_is_decoded_to_its_first_frame() -> None:
    frames = [Image.new("RGB", (16, 16), RED), Image.new("RGB", (16, 16), (0, 0, 250))]
    for form in ("GIF", "WEBP", "PNG", "AVIF"):
        buffer = io.BytesIO()
        frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
        assert np.abs(mean(buffer.getvalue()) - RED).max() < 8, form


def corner_image() -> Image.Image:
    """A wide image that is white in the upper left corner and black elsewhere."""
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 10))
    return image


#: EXIF orientation -> how a camera with this orientation stores an upright image.
_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int, form: str) -> None:
    turn = _STORED[orientation]
    stored = corner_image().transpose(turn) if turn is not None else corner_image()
    exif = Image.Exif()
    exif[0x0112] = orientation
    # HEIC and AVIF record the rotation in their own way, and say the same in EXIF.
    decoded = decode(encode(stored, form, exif=exif.tobytes()), 20, 40)
    assert (decoded.width, decoded.height) == (40, 20)
    quarters = decoded.pixels.reshape(2, 10, 2, 20, 3).mean(axis=(1, 3, 4))
    assert quarters[0, 0] > 230
    assert max(quarters[0, 1], quarters[1, 0], quarters[1, 1]) < 25


def test_a_heic_in_tiles_is_decoded_whole() -> None:
    decoded = decode(encode(corner_image().resize((320, 160)), "HEIF", tile_size=64), 20, 40)
    assert (decoded.width, decoded.height) == (320, 160)
    quarters = decoded.pixels.reshape(2, 10, 2, 20, 3).mean(axis=(1, 3, 4))
    assert quarters[0, 0] > 230
    assert max(quarters[0, 1], quarters[1, 0], quarters[1, 1]) < 25


@pytest.mark.parametrize("primary", [0, 1])
def test_a_heic_of_several_images_is_decoded_to_its_main_image(primary: int) -> None:
    images = [Image.new("RGB", (64, 64), RED), Image.new("RGB", (96, 80), (20, 20, 220))]
    data = encode(images[0], "HEIF", save_all=True, append_images=images[1:], primary_index=primary)
    assert np.abs(mean(data) - images[primary].getpixel((0, 0))).max() < 6
    decoded = decode(data, 8, 8)
    assert (decoded.width, decoded.height) == images[primary].size


def test_a_thumbnail_in_a_heic_is_not_decoded_in_place_of_the_image() -> None:
    heif = from_pillow(Image.new("RGB", (640, 480), RED))
    buffer = io.BytesIO()
    heif.save(buffer, thumbnails=[128])
    with Image.open(io.BytesIO(buffer.getvalue()), formats=FORMATS) as image:
        assert image.draft("RGB", (64, 64)) is None
    assert np.abs(mean(buffer.getvalue()) - RED).max() < 6


@pytest.mark.parametrize("mode", ["RGB;16", "RGBA;16"])
def test_a_heic_of_10_bits_keeps_its_colors(mode: str) -> None:
    shades = [shade * 257 for shade in RED] + [65_535] * (mode == "RGBA;16")
    deep = np.full((64, 64, len(shades)), shades, np.uint16)
    buffer = io.BytesIO()
    from_bytes(mode, (64, 64), deep.tobytes()).save(buffer)
    assert np.abs(mean(buffer.getvalue()) - RED).max() < 6


@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
def test_heic_and_avif_of_the_container_brand_are_decoded(form: str) -> None:
    data = draw((64, 64), RED, form)
    assert np.abs(mean(data[:8] + b"mif1" + data[12:]) - RED).max() < 6


def test_the_crop_of_a_heic_cannot_make_it_larger() -> None:
    data = draw((60, 44), RED, "HEIF")
    crop = data.index(b"clap") + 4
    decoded = decode(data[:crop] + struct.pack(">II", 5000, 1) + data[crop + 8 :], 8, 8)
    assert decoded.width <= 64


@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
def test_transparent_parts_of_heic_and_avif_are_white(form: str) -> None:
    assert np.abs(mean(draw((64, 64), (200, 30, 30, 0), form, "RGBA")) - 255).max() < 4
    assert np.abs(mean(draw((64, 64), (0, 0, 0, 128), form, "RGBA")) - 127).max() < 4
    assert np.abs(mean(draw((64, 64), (*RED, 255), form, "RGBA")) - RED).max() < 6


def test_an_image_with_a_broken_exif_block_is_decoded() -> None:
    assert np.abs(mean(draw(color=RED, form="JPEG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")) - RED).max() < 6


def test_a_large_jpeg_keeps_its_colors_and_reports_its_full_size() -> None:
    image = Image.new("RGB", (2000, 1500), RED)
    image.paste((20, 20, 220), (0, 0, 1000, 1500))
    decoded = decode(encode(image, "JPEG"), 32, 32)
    assert (decoded.width, decoded.height) == (2000, 1500)
    assert np.abs(decoded.pixels[:, 20:].mean(axis=(0, 1)) - RED).max() < 6
    assert np.abs(decoded.pixels[:, :12].mean(axis=(0, 1)) - (20, 20, 220)).max() < 6


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_images_are_decoded_or_rejected(form: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(Image.fromarray(noise), form)
    try:
        decoded = decode(data[: int(len(data) * share)], 16, 16)
    except UndecodableImageError as error:
        assert str(error)
    else:
        assert decoded.pixels.shape == (16, 16, 3)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"%PDF-1.7", struct.pack("<II", 1, 2)]
)
def test_bytes_that_are_not_an_image_are_rejected(data: bytes) -> None:
    with pytest.raises(UndecodableImageError):
        decode(data, 8, 8)


def test_the_error_for_unknown_data_contains_no_memory_address() -> None:
    with pytest.raises(UndecodableImageError, match=r"^UnidentifiedImageError: cannot identify image file$"):
        decode(b"hello", 8, 8)


def test_brightness_and_contrast_of_known_images() -> None:
    white = decode(draw(color=(255, 255, 255)), 32, 32).pixels
    assert brightness_contrast(white) == pytest.approx((1.0, 0.0), abs=1e-4)
    halves = np.zeros((32, 32, 3), np.uint8)
    halves[:, 16:] = 255
    assert brightness_contrast(halves) == pytest.approx((0.5, 0.5), abs=1e-4)


NOISE = Image.effect_noise((431, 803), 90)
SHADES = Image.merge("RGBA", [NOISE, NOISE.rotate(90), NOISE.rotate(180), NOISE.rotate(45)])
DEEP = np.asarray(NOISE).astype(np.float32)


def on_white(image: Image.Image) -> Image.Image:
    over = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")


@pytest.mark.parametrize(
    ("image", "form", "expected"),
    [
        pytest.param(SHADES, "PNG", on_white(SHADES), id="RGBA"),
        pytest.param(SHADES.convert("LA"), "PNG", on_white(SHADES.convert("LA")), id="LA"),
        pytest.param(paletted := SHADES.convert("RGB").quantize(32), "PNG", paletted.convert("RGB"), id="P"),
        pytest.param(NOISE, "PNG", NOISE.convert("RGB"), id="L"),
        pytest.param(bilevel := NOISE.convert("1"), "PNG", bilevel.convert("RGB"), id="1"),
        pytest.param(Image.fromarray((DEEP * 257).astype(np.uint16)), "PNG", NOISE.convert("RGB"), id="I;16"),
        pytest.param(Image.fromarray((DEEP * 256).astype(np.int32)), "TIFF", NOISE.convert("RGB"), id="I"),
        pytest.param(Image.fromarray(DEEP), "TIFF", NOISE.convert("RGB"), id="F"),
        pytest.param(cmyk := SHADES.convert("RGB").convert("CMYK"), "TIFF", cmyk.convert("RGB"), id="CMYK"),
    ],
)
def test_a_large_image_converted_in_strips_equals_the_image_converted_whole(
    image: Image.Image, form: str, expected: Image.Image
) -> None:
    decoded, whole = decode(encode(image, form), 96, 96), decode(encode(expected, "PNG"), 96, 96)
    assert np.array_equal(decoded.pixels, whole.pixels)


@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory from /proc")
@pytest.mark.parametrize(
    "draw",
    [
        "Image.new('RGBA', (3000, 3000), (9, 8, 7, 99)).save(buffer, 'PNG', compress_level=1)",
        "Image.new('I;16', (3000, 3000), 4000).save(buffer, 'TIFF', compression='tiff_adobe_deflate')",
        "Image.new('F', (3000, 3000), 0.5).save(buffer, 'TIFF', compression='tiff_adobe_deflate')",
        "Image.new('CMYK', (3000, 3000), (9, 8, 7, 6)).save(buffer, 'JPEG')",
    ],
    ids=["alpha", "12 bits in 16", "float", "CMYK"],
)
def test_a_large_image_needs_little_more_memory_than_its_pixels(draw: str) -> None:
    # `getrusage` does not work here: a child process inherits the peak of its parent.
    import subprocess

    program = (
        "import io; from pathlib import Path; from PIL import Image; from bundle.decode import decode\n"
        f"buffer = io.BytesIO(); {draw}\n"
        "decode(buffer.getvalue(), 64, 64)\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    assert int(done.stdout) < 100_000  # KiB; the pixels take 35,000 when drawn, and again when decoded


def striped(width: int, height: int) -> Image.Image:
    """Red, green and blue thirds along the longer side."""
    image = Image.new("RGB", (width, height))
    for at, color in enumerate(("red", "lime", "blue")):
        box = (at * width // 3, 0, (at + 1) * width // 3, height)
        if height > width:
            box = (0, at * height // 3, width, (at + 1) * height // 3)
        image.paste(color, box)
    return image


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("size", [(300, 100), (100, 300), (1200, 400)])
def test_crop_uses_the_middle_and_pad_adds_black_borders(form: str, size: tuple[int, int]) -> None:
    data = encode(striped(*size), form)
    cropped = decode(data, 30, 30, "crop").pixels
    assert np.abs(cropped[2:-2, 2:-2].astype(int) - [0, 255, 0]).max() < 60
    padded = decode(data, 30, 30, "pad").pixels
    if size[0] < size[1]:
        padded = padded.transpose(1, 0, 2)
    assert padded[:9].max() < 20
    assert padded[-9:].max() < 20
    middle = [padded[15, x].argmax() for x in (4, 15, 25)]
    assert middle == [0, 1, 2]


@pytest.mark.parametrize("name", ["bicubic", "nearest", "area"])
def test_other_filters_give_the_pixels_of_pillow(name: Any) -> None:
    how = {"bicubic": Image.Resampling.BICUBIC, "nearest": Image.Resampling.NEAREST, "area": Image.Resampling.BOX}[name]
    random = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    data = encode(Image.fromarray(random), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.resize((48, 32), how))
        cropped = np.asarray(image.resize((32, 32), how, box=(100, 0, 400, 300)))
    assert np.array_equal(decode(data, 32, 48, filter=name).pixels, expected)
    assert np.array_equal(decode(data, 32, 32, "crop", name).pixels, cropped)


def test_a_rotated_image_is_cropped_and_padded_like_an_upright_one() -> None:
    upright, exif = striped(300, 100), Image.Exif()
    exif[0x0112] = 6
    rotated = encode(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif.tobytes(), quality=95)
    for rule in ("crop", "pad", "squash"):
        expected = decode(encode(upright, "PNG"), 20, 40, rule).pixels.astype(int)
        assert np.abs(decode(rotated, 20, 40, rule).pixels - expected).mean() < 8


def test_crop_keeps_the_resolution_of_a_large_jpeg() -> None:
    """The image is not decoded at a resolution that is enough only for the whole of it."""
    image = Image.new("RGB", (3200, 400), "gray")
    for x in range(1400, 1800, 8):
        image.paste("white", (x, 0, x + 4, 400))
    pixels = decode(encode(image, "JPEG", quality=95), 200, 200, "crop").pixels
    assert pixels[100].std() > 30
