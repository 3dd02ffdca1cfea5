"""Regenerates the images in `examples/photos`: drawn cats and dogs, and variants of the photograph `cat.jpg`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageOps

PHOTOS = Path(__file__).parent / "photos"
_SCALE = 3  # draw larger, then scale down for smooth edges
_EXIF_ORIENTATION = 0x0112
_QUALITY = 85

Color = tuple[int, int, int]
DARK: Color = (40, 30, 28)
PINK: Color = (224, 130, 140)


@dataclass(frozen=True, slots=True)
class Coat:
    """The colors of one animal and of its background."""

    fur: Color
    shade: Color
    light: Color
    eyes: Color
    background: Color


class Canvas:
    """A drawing area of 400 x 300 points."""

    def __init__(self, background: Color) -> None:
        self._image = Image.new("RGB", (400 * _SCALE, 300 * _SCALE), background)
        self._draw = ImageDraw.Draw(self._image)

    def oval(self, x: float, y: float, width: float, height: float, color: Color) -> None:
        """Draw an ellipse around a center."""
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        self._draw.ellipse([value * _SCALE for value in box], fill=color)

    def shape(self, *points: tuple[float, float], color: Color) -> None:
        """Draw a filled polygon."""
        self._draw.polygon([(x * _SCALE, y * _SCALE) for x, y in points], fill=color)

    def line(self, *points: tuple[float, float], width: float = 2, color: Color = DARK) -> None:
        """Draw a line through points."""
        self._draw.line([(x * _SCALE, y * _SCALE) for x, y in points], fill=color, width=round(width * _SCALE))

    def image(self) -> Image.Image:
        """The finished drawing, slightly blurred like a photograph."""
        return self._image.resize((400, 300), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(0.6))


def cat(coat: Coat) -> Image.Image:
    """A cat's face with pointed ears, slit pupils, whiskers and stripes."""
    canvas = Canvas(coat.background)
    canvas.oval(200, 300, 230, 150, coat.shade)
    for side in (-1, 1):
        canvas.shape((200 + side * 92, 40), (200 + side * 20, 100), (200 + side * 95, 150), color=coat.fur)
        canvas.shape((200 + side * 84, 62), (200 + side * 42, 100), (200 + side * 84, 130), color=PINK)
    canvas.oval(200, 165, 210, 180, coat.fur)
    for shift in (-28, 0, 28):
        canvas.shape((195 + shift, 80), (205 + shift, 80), (200 + shift * 0.7, 118), color=coat.shade)
    canvas.oval(200, 205, 110, 75, coat.light)
    for side in (-1, 1):
        canvas.oval(200 + side * 45, 150, 46, 40, coat.eyes)
        canvas.oval(200 + side * 45, 150, 10, 36, DARK)
        canvas.oval(196 + side * 45, 140, 8, 8, (255, 255, 255))
        for lift in (-14, 0, 14):
            canvas.line((200 + side * 35, 207 + lift / 3), (200 + side * 135, 200 + lift), width=1.2)
    canvas.shape((188, 185), (212, 185), (200, 198), color=PINK)
    canvas.line((200, 198), (200, 210), (182, 220))
    canvas.line((200, 210), (218, 220))
    return canvas.image()


def dog(coat: Coat) -> Image.Image:
    """A dog's face with hanging ears, a long snout, round eyes and a tongue."""
    canvas = Canvas(coat.background)
    canvas.oval(200, 310, 250, 150, coat.shade)
    canvas.oval(200, 140, 170, 190, coat.fur)
    for side in (-1, 1):
        canvas.oval(200 + side * 98, 150, 62, 150, coat.shade)
        canvas.oval(200 + side * 75, 80, 60, 50, coat.shade)
        canvas.oval(200 + side * 38, 120, 30, 32, (250, 250, 250))
        canvas.oval(200 + side * 37, 122, 20, 22, coat.eyes)
        canvas.oval(200 + side * 37, 122, 11, 13, DARK)
    canvas.oval(200, 262, 38, 60, PINK)
    canvas.oval(200, 205, 112, 105, coat.light)
    canvas.oval(200, 175, 48, 34, DARK)
    canvas.oval(192, 168, 12, 7, (150, 140, 140))
    canvas.line((200, 190), (200, 228), width=3)
    canvas.line((165, 235), (200, 228), (235, 235), width=3)
    return canvas.image()


GINGER = Coat((214, 138, 62), (170, 98, 40), (250, 226, 196), (140, 170, 60), (188, 204, 214))
GREY = Coat((128, 130, 138), (88, 90, 98), (208, 208, 214), (210, 170, 50), (120, 150, 110))
BLACK = Coat((58, 54, 56), (36, 33, 35), (96, 90, 92), (190, 200, 70), (214, 196, 170))
BROWN = Coat((150, 100, 60), (104, 66, 38), (214, 180, 140), (96, 60, 30), (150, 190, 150))
GOLDEN = Coat((222, 178, 108), (190, 140, 74), (246, 226, 184), (110, 70, 30), (140, 180, 220))
WHITE = Coat((236, 232, 226), (120, 90, 70), (252, 250, 246), (80, 60, 50), (170, 160, 190))

DRAWN: dict[str, tuple[Callable[[Coat], Image.Image], Coat]] = {
    "drawn-cat-1.png": (cat, GINGER),
    "drawn-cat-2.jpg": (cat, GREY),
    "drawn-cat-3.webp": (cat, BLACK),
    "drawn-dog-1.png": (dog, BROWN),
    "drawn-dog-2.jpg": (dog, GOLDEN),
    "drawn-dog-3.webp": (dog, WHITE),
}


def draw_animals(folder: Path) -> None:
    """Write the drawings."""
    for name, (animal, coat) in DRAWN.items():
        animal(coat).save(folder / name, quality=_QUALITY)


def vary_photograph(folder: Path) -> None:
    """Write variants of `cat.jpg`: cropped, greyscale, small PNG, WebP, and rotated by EXIF."""
    with Image.open(PHOTOS / "cat.jpg") as opened:
        photo = opened.convert("RGB")
    photo.crop((90, 40, 390, 290)).save(folder / "cat-face.jpg", quality=_QUALITY)
    ImageOps.grayscale(photo).save(folder / "cat-grey.jpg", quality=_QUALITY)
    ImageOps.mirror(photo).resize((225, 150)).save(folder / "cat-small.png")
    photo.save(folder / "cat.webp", quality=_QUALITY)
    turned = Image.Exif()
    turned[_EXIF_ORIENTATION] = 6  # a camera held in portrait orientation: the pixels are stored rotated
    photo.transpose(Image.Transpose.ROTATE_90).save(folder / "cat-turned.jpg", quality=_QUALITY, exif=turned)


if __name__ == "__main__":
    draw_animals(PHOTOS)
    vary_photograph(PHOTOS)
