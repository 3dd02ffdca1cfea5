"""The ranges of pixel values for which networks are trained."""

import re
from dataclasses import dataclass

from importer.request import ImportFailedError

_HOW = (
    "none (pixels of 0..255: EfficientNet, MobileNetV3, ConvNeXt of Keras), 0..1 (most own networks), -1..1 "
    "(MobileNet, MobileNetV2, Xception, Inception, Teachable Machine), imagenet (DenseNet, PyTorch), caffe (VGG and "
    "ResNet of Keras) or MEAN/STD in units of 0..255, such as 127.5/127.5"
)
_NUMBERS = r"-?\d+(?:\.\d+)?(?:,-?\d+(?:\.\d+)?){0,2}"
_MEAN_STD = re.compile(f"({_NUMBERS})/({_NUMBERS})")


@dataclass(frozen=True)
class Scale:
    """How pixels of 0..255 become the input of a network: `factors * pixels + offsets`, for each channel."""

    #: As the user writes it.
    name: str
    #: One number, or one for each of red, green and blue (with `bgr`: blue, green and red).
    factors: tuple[float, ...] = (1.0,)
    offsets: tuple[float, ...] = (0.0,)
    #: Whether the network takes blue, green and red.
    bgr: bool = False

    @property
    def is_none(self) -> bool:
        """Whether the network gets the pixels as they are."""
        return self.name == "none"


def _scale(name: str, mean: tuple[float, ...], std: tuple[float, ...], *, bgr: bool = False) -> Scale:
    count = max(len(mean), len(std))
    means, stds = (values * (count if len(values) == 1 else 1) for values in (mean, std))
    factors = tuple(1 / one for one in stds)
    return Scale(name, factors, tuple(-one * factor for one, factor in zip(means, factors, strict=True)), bgr)


SCALES = {
    "none": Scale("none"),
    "0..1": _scale("0..1", (0.0,), (255.0,)),
    "-1..1": _scale("-1..1", (127.5,), (127.5,)),
    "imagenet": _scale("imagenet", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "caffe": _scale("caffe", (103.939, 116.779, 123.68), (1.0,), bgr=True),
}


def parse_scale(text: str) -> Scale:
    """The scale that a user names.

    Raises:
        ImportFailedError: it is unknown.
    """
    if text in SCALES:
        return SCALES[text]
    found = _MEAN_STD.fullmatch(text.replace(" ", ""))
    if not found:
        raise ImportFailedError(f"--scale {text}: unknown. Use {_HOW}.")
    mean, std = (tuple(float(number) for number in numbers.split(",")) for numbers in found.groups())
    if {len(mean), len(std)} - {1, 3} or min(std) <= 0:
        raise ImportFailedError(f"--scale {text}: MEAN and STD are one number or three each, and STD is positive.")
    if max(mean) <= 1 and max(std) <= 1:
        raise ImportFailedError(
            f"--scale {text}: these are for pixels of 0..1. Multiply them by 255, because MEAN and STD are in units of "
            "0..255."
        )
    return _scale(text, mean, std)


def missing_scale() -> ImportFailedError:
    """The error for a network that does not scale its input, if the user does not say how to."""
    return ImportFailedError(
        f"The network has no layer that scales its input, so --scale is needed, as in its training: {_HOW}."
    )
