"""Draws a labeled folder of six classes, to try `make train` on: birds, boats, cars, fish, houses and trees.

The drawings differ in position, size, angle, colors and background.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 192
_SCALE = 2  # draw larger, then scale down for smooth edges

#: Points of an outline in a square from -1 to 1; y grows downwards.
Points = list[tuple[float, float]]
Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """A filled outline, in the main color (0) or in one of the others."""

    color: int
    points: Points


def _oval(x: float, y: float, width: float, height: float, start: float = 0, end: float = 360) -> Points:
    """Points on an ellipse around a center, or on a part of it, in degrees."""
    angles = np.radians(np.linspace(start, end, 24))
    return [(x + width / 2 * math.cos(angle), y + height / 2 * math.sin(angle)) for angle in angles]


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


CLASSES: dict[str, list[Part]] = {
    "bird": [
        Part(0, _oval(0, 0.1, 1.2, 0.7)),
        Part(0, _oval(0.6, -0.3, 0.5, 0.5)),
        Part(2, [(0.8, -0.4), (1.1, -0.25), (0.8, -0.15)]),
        Part(0, [(-0.5, 0), (-1, -0.2), (-0.95, 0.25)]),
        Part(1, [(-0.3, 0), (0.3, 0.05), (-0.2, -0.7)]),
        Part(2, _box(-0.1, 0.4, -0.04, 0.85)),
        Part(2, _box(0.1, 0.4, 0.16, 0.85)),
    ],
    "boat": [
        Part(0, [(-0.9, 0.4), (0.9, 0.4), (0.6, 0.85), (-0.6, 0.85)]),
        Part(2, _box(-0.04, -0.9, 0.04, 0.4)),
        Part(1, [(0.08, -0.85), (0.75, 0.3), (0.08, 0.3)]),
        Part(1, [(-0.08, -0.6), (-0.6, 0.3), (-0.08, 0.3)]),
    ],
    "car": [
        Part(0, _box(-0.95, -0.05, 0.95, 0.4)),
        Part(0, [(-0.6, -0.05), (-0.35, -0.5), (0.35, -0.5), (0.6, -0.05)]),
        Part(1, [(-0.45, -0.08), (-0.28, -0.4), (-0.04, -0.4), (-0.04, -0.08)]),
        Part(1, [(0.45, -0.08), (0.28, -0.4), (0.04, -0.4), (0.04, -0.08)]),
        Part(2, _oval(-0.5, 0.4, 0.42, 0.42)),
        Part(2, _oval(0.5, 0.4, 0.42, 0.42)),
    ],
    "fish": [
        Part(0, _oval(0.1, 0, 1.4, 0.75)),
        Part(0, [(-0.5, 0), (-1, -0.4), (-1, 0.4)]),
        Part(1, [(-0.1, -0.3), (0.4, -0.3), (0.05, -0.65)]),
        Part(2, _oval(0.5, -0.08, 0.12, 0.12)),
    ],
    "house": [
        Part(0, _box(-0.7, -0.1, 0.7, 0.85)),
        Part(1, [(-0.9, -0.1), (0, -0.85), (0.9, -0.1)]),
        Part(2, _box(-0.15, 0.35, 0.15, 0.85)),
        Part(2, _box(-0.55, 0.1, -0.3, 0.35)),
        Part(2, _box(0.3, 0.1, 0.55, 0.35)),
    ],
    "tree": [
        Part(2, _box(-0.12, 0.2, 0.12, 0.95)),
        Part(0, _oval(0, -0.35, 1.1, 1)),
        Part(0, _oval(-0.4, 0, 0.7, 0.6)),
        Part(0, _oval(0.4, 0, 0.7, 0.6)),
    ],
}


def draw_classes(folder: Path, count: int, start: int = 0) -> None:
    """Write the images `start` to `start + count` of each class to folders with the names of the classes.

    An image is the same in every call.
    """
    for index, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(start, start + count):
            image = _draw(CLASSES[name], np.random.default_rng((index, number)))
            image.save(folder / name / f"{number:04}.jpg", quality=85)


def _draw(parts: list[Part], rng: np.random.Generator) -> Image.Image:
    image = _background(rng).resize((SIDE * _SCALE, SIDE * _SCALE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    colors = list(_colors(rng, 3))
    size = rng.uniform(0.2, 0.48) * SIDE * _SCALE
    angle = math.radians(rng.uniform(-20, 20))
    mirror = rng.choice([-1, 1])
    stretch = rng.uniform(0.8, 1.25)
    center = rng.uniform(size, SIDE * _SCALE - size, 2)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    for part in parts:
        points = (np.array(part.points) * [mirror * stretch, 1 / stretch] * size) @ turn.T + center
        draw.polygon([tuple(point) for point in points.tolist()], fill=colors[part.color])
    image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))
    grain = rng.normal(0, rng.uniform(0, 12), (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def _background(rng: np.random.Generator) -> Image.Image:
    """Soft blobs in random colors."""
    cells = int(rng.integers(2, 7))
    return Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))


def _colors(rng: np.random.Generator, count: int) -> Iterator[Color]:
    for _ in range(count):
        red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
        yield red, green, blue


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python examples/draw_classes.py state/six")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200, help="images of each class; default: 200")
    parser.add_argument("--start", type=int, default=0, help="number of the first image; others are drawn; default: 0")
    args = parser.parse_args()
    draw_classes(args.folder, args.count, args.start)
    print(f"Drew {args.count} images of each of {len(CLASSES)} classes in {args.folder}.")


if __name__ == "__main__":
    main()
