"""Converts a loaded image to 8-bit sRGB: deep samples, CMYK, transparency, color profiles and gamma."""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms, ImageFile

from bundle.samples import (
    SAMPLE_RANGE_ASSUMED,
    Levels,
    color_levels,
    find_levels,
    low_bytes,
    max_color,
    read_samples,
)

COLOR_PROFILE_IGNORED = "color_profile_ignored"
CMYK_POLARITY_ASSUMED = "cmyk_polarity_assumed"

#: The profiles of printing presses are up to 3 MB; profiles over this size are ignored.
_PROFILE_MAX_BYTES = 4 * 1024 * 1024
#: Profiles that are cached. A service gets few different ones: those of cameras, phones and editors.
_PROFILES_KEPT = 16
#: Profiles of these classes describe the colors of an image; others describe conversions.
_PROFILE_CLASSES = frozenset({"scnr", "mntr", "prtr", "spac"})
#: The color space of a profile, and the mode of the images that it converts.
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
#: A profile that moves no color by more than this is treated as sRGB. Dozens of variants differ only in rounding.
_SAME_COLOR = 2
_GREY_MODES = ("1", "L", "LA", "La")
_ALPHA_MODES = ("LA", "PA", "RGBA", "La", "RGBa")

#: The gamma with which sRGB is stored, and the range that libpng accepts.
_DISPLAY_GAMMA = 2.2
_GAMMAS = (0.16, 6.25)
#: Browsers do not correct smaller differences either.
_SAME_GAMMA = 0.05
#: The white point and primaries of sRGB: x and y of white, red, green and blue.
_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_SAME_PRIMARIES = 0.01


class Converter:
    """Loads an opened image and converts it to sRGB: `rows` yields parts of it, `finish` corrects the colors.

    Colors are corrected last, on the resized image, which has far fewer pixels.

    Raises:
        UnsupportedSamplesError: the file stores its samples in a way that cannot be read correctly.
    """

    def __init__(self, image: ImageFile.ImageFile) -> None:
        samples = read_samples(image)
        file = image.fp  # Pillow sets it to None when the pixels are loaded
        image.load()
        self._image = image
        self._samples = samples
        self._warnings = list(samples.warnings)
        #: For samples that are not unsigned 8-bit integers from 0 to 255.
        self._levels: Levels | None = None
        self._low_bytes: Image.Image | None = None
        if image.mode.startswith(("I", "F")) or samples.kind == "i":
            self._levels, warnings = find_levels(image, samples)
            self._warnings += warnings
        elif samples.has_deep_colors:
            self._choose_color_levels(file)
        self._is_inverted = samples.is_inverted
        if image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info:
            self._is_inverted = _has_plain_inks(image)
            self._warnings.append(CMYK_POLARITY_ASSUMED)
        self._profile: _Profile | None = None
        self._gamma: list[int] | None = None
        self._choose_color_correction()
        #: Mode of the images that `rows` returns.
        self.mode = "CMYK" if image.mode == "CMYK" and self._profile else "RGB"
        #: Whether `rows` returns the pixels as they are.
        self.is_plain = (
            image.mode == "RGB"
            and not (self._low_bytes or samples.frame or self._is_inverted)
            and "transparency" not in image.info
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Codes of the assumptions made, each once."""
        return tuple(dict.fromkeys(self._warnings)) if self._warnings else ()

    def rows(self, top: int, bottom: int) -> Image.Image:
        """The rows from `top` to before `bottom`, in `mode`. Transparent images are placed on white."""
        image = self._image
        is_whole = (top, bottom) == (0, image.height)
        box = (0, top, image.width, bottom)
        strip = image if is_whole else image.crop(box)
        if self.is_plain:
            return strip
        if self._levels and self._low_bytes:
            high = np.asarray(strip).astype(np.uint16)
            strip = Image.fromarray(self._levels.to_bytes(high << 8 | np.asarray(self._low_bytes.crop(box))))
        elif self._levels:
            strip = self._grey(self._samples.values(strip), self._levels)
        elif self._is_inverted:
            strip = ImageChops.invert(strip.convert("L") if strip.mode == "1" else strip)
        strip = strip if strip.mode == self.mode == "CMYK" else _on_white(strip)
        return _inside(strip, self._samples.frame, top) if self._samples.frame else strip

    def finish(self, image: Image.Image) -> Image.Image:
        """Convert an image made of `rows` to sRGB."""
        if self._profile:
            image = self._profile.apply(image)
        elif image.mode != "RGB":
            image = image.convert("RGB")
        return image.point(self._gamma * 3) if self._gamma else image

    def _grey(self, values: NDArray[Any], levels: Levels) -> Image.Image:
        grey = levels.to_bytes(values)
        if self._is_inverted:
            grey = 255 - grey
        key = self._image.info.get("transparency")
        return Image.fromarray(np.where(values == key, 255, grey).astype(np.uint8) if isinstance(key, int) else grey)

    def _choose_color_levels(self, file: Any) -> None:
        """Pillow has loaded the higher byte of each sample. Where the image needs the lower ones, load them too."""
        image = self._image
        levels, is_assumed = color_levels(image, self._samples)
        is_narrow = levels != Levels(0, 65535)
        if is_narrow and image.mode == "RGB" and image.format == "TIFF":
            low = low_bytes(file)
            if max_color(image) == max_color(low) == 0:
                return  # it is black
            self._levels, self._low_bytes, is_narrow = levels, low, False
        if is_assumed or is_narrow:
            self._warnings.append(SAMPLE_RANGE_ASSUMED)

    def _choose_color_correction(self) -> None:
        info, mode = self._image.info, self._image.mode
        profile = info.get("icc_profile", b"")
        if profile != b"":  # None if Pillow found a damaged one
            self._profile, is_used = _find_profile(profile, mode)
            if not is_used:
                self._warnings.append(COLOR_PROFILE_IGNORED)
        elif "gamma" in info and "srgb" not in info:
            self._gamma, is_used = _gamma_table(info["gamma"])
            primaries = info.get("chromaticity", _SRGB_PRIMARIES)
            if not is_used or np.abs(np.subtract(primaries, _SRGB_PRIMARIES)).max() > _SAME_PRIMARIES:
                self._warnings.append(COLOR_PROFILE_IGNORED)


def _has_plain_inks(image: Image.Image) -> bool:
    """Whether a CMYK JPEG without Adobe's marker is not inverted; Pillow assumes that it is, as Adobe inverts the inks.

    Programs disagree: browsers always invert, libvips only with the marker. Printed images use black ink sparingly, so
    the reading with less of it is right.
    """
    counts = np.array(image.histogram()[-256:])
    return bool((counts * np.arange(256)).sum() > 127.5 * counts.sum())


def _on_white(image: Image.Image) -> Image.Image:
    """The image in mode RGB, on white where it is transparent."""
    if image.mode not in _ALPHA_MODES and "transparency" not in image.info:
        return image if image.mode == "RGB" else image.convert("RGB")
    over = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    white = Image.new("RGBA", over.size, "white")
    return Image.alpha_composite(white, over).convert("RGB")


def _inside(strip: Image.Image, frame: tuple[int, int, int, int], top: int) -> Image.Image:
    """The part of a strip that a frame covers, on white; the strip begins at row `top`."""
    left, upper, right, lower = frame
    box = (left, max(0, upper - top), right, min(strip.height, lower - top))
    white = Image.new("RGB", strip.size, "white")
    if box[1] < box[3]:
        white.paste(strip.crop(box), box)
    return white


@dataclass(frozen=True, slots=True)
class _Profile:
    """A color profile, ready to convert images to sRGB."""

    #: Color space of the profile: a key of `_PROFILE_MODES`.
    space: str
    #: None if the profile is sRGB.
    transform: ImageCms.ImageCmsTransform | None

    def apply(self, image: Image.Image) -> Image.Image:
        """Convert an image to sRGB; a grey one may be in mode RGB."""
        if self.transform is None:
            return image
        return self.transform.apply(image.getchannel(0) if self.space == "GRAY" else image)


def _find_profile(data: Any, mode: str) -> tuple[_Profile | None, bool]:
    """The profile to convert with, None if there is nothing to convert; and whether the profile could be used."""
    if mode == "LAB":
        return None, True  # its colors need no profile
    try:
        profile = _open_profile(data) if 0 < len(data) <= _PROFILE_MAX_BYTES else None
    # A damaged profile can raise anything; the image can be decoded without it.
    except Exception:  # noqa: BLE001
        profile = None
    spaces = ("CMYK",) if mode == "CMYK" else ("GRAY", "RGB") if mode.startswith(("I", "F", *_GREY_MODES)) else ("RGB",)
    if profile is None or profile.space not in spaces:
        return None, False
    return (profile if profile.transform else None), True


@lru_cache(_PROFILES_KEPT)
def _open_profile(data: bytes) -> _Profile:
    """Open a profile. Raises almost any exception if it is damaged or does not describe an image."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
    space = profile.profile.xcolor_space.strip()
    if profile.profile.device_class.strip() not in _PROFILE_CLASSES:
        raise ValueError("It describes a conversion.")
    mode = _PROFILE_MODES[space]
    transform = ImageCms.ImageCmsTransform(
        profile,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return _Profile(space, None if mode != "CMYK" and _is_srgb(transform, mode) else transform)


def _is_srgb(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform to sRGB changes no color visibly."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    colors = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)
    before = Image.fromarray(colors).convert(mode)
    changes = np.asarray(transform.apply(before)).astype(int) - np.asarray(before.convert("RGB"))
    return bool(np.abs(changes).max() <= _SAME_COLOR)


def _gamma_table(gamma: float) -> tuple[list[int] | None, bool]:
    """The sRGB value of each stored value, None if they are the same; and whether the gamma is valid."""
    if not _GAMMAS[0] <= gamma <= _GAMMAS[1]:
        return None, False
    exponent = 1 / (_DISPLAY_GAMMA * gamma)
    if abs(1 / exponent - 1) <= _SAME_GAMMA:
        return None, True
    return [round(255 * (value / 255) ** exponent) for value in range(256)], True
