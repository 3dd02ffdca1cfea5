"""The parameters of `params.yaml`, typed and validated before any stage runs."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from training.errors import TrainingError

Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DownloadParams(_Section):
    """Where to download the public data set."""

    url: str = Field(pattern=r"^https?://")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class InputParams(_Section):
    """Size of the network's input, in pixels."""

    height: int = Field(ge=32, le=1024)
    width: int = Field(ge=32, le=1024)


class PrepareParams(_Section):
    """Which images are kept and how they are split."""

    seed: int = Field(ge=0)
    #: Factor by which stored training images are larger than the input, so that crops stay sharp.
    enlarge: float = Field(ge=1, le=2)
    #: Images with a shorter side are dropped.
    min_side_px: int = Field(ge=1)
    #: Images whose 64-bit perceptual hashes differ in at most this many bits share a split.
    near_duplicate_bits: int = Field(ge=0, le=16)
    #: Fraction of the images in the validation split.
    validation: float = Field(gt=0, lt=0.5)
    #: Fraction of the images in the test split.
    test: float = Field(gt=0, lt=0.5)
    #: Maps folder names to labels.
    rename: dict[str, str] = {}
    #: Archives that unpack to more are rejected.
    max_unpacked_gb: float = Field(gt=0)
    #: Keep at most this many images per class, in the order of their checksums; 0 keeps all.
    max_per_class: int = Field(ge=0)


class TrainParams(_Section):
    """The network, the optimizer and the schedule."""

    architecture: str
    #: The pretrained backbone of `transfer`: `efficientnet_lite0`, `_lite1`, `_lite2` or `mobilenet_v3_small`.
    backbone: str = "efficientnet_lite0"
    #: Initial backbone weights of `transfer`: "imagenet" (from an installed package; for MobileNetV3, downloaded),
    #: "random" or the path of a weights file.
    backbone_weights: str = "imagenet"
    #: `model.keras` of a bundle with the same architecture and classes to start from; empty: `backbone_weights` for
    #: `transfer`, otherwise random weights.
    start_weights: str = ""
    #: Distillation: a bundle with the same classes, whose probabilities for the augmented images become part of the
    #: training targets; empty: none.
    teacher: str = ""
    #: Share of the teacher's probabilities in the targets; the rest are the labels.
    distill: Share = 0.8
    seed: int = Field(ge=0)
    #: 0 trains only the head of `transfer`.
    epochs: int = Field(ge=0, le=10_000)
    batch_size: int = Field(ge=2, le=4096)
    #: Peak of the cosine schedule.
    learning_rate: float = Field(gt=0, le=10)
    warmup_epochs: float = Field(ge=0)
    weight_decay: float = Field(ge=0, lt=1)
    dropout: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    #: Momentum of the moving average of the weights; 0 turns averaging off.
    ema: float = Field(ge=0, lt=1)
    #: Stop after this many epochs without a lower validation loss; 0 never stops early.
    patience: int = Field(ge=0)
    #: Side of the training images in the first and last epochs, for `compact` and `transfer`; 0 is the input size.
    #: Smaller images train faster, and a network trained on crops does better on images that are larger than the crops.
    start_side_px: int = Field(ge=0)
    end_side_px: int = Field(ge=0)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"]

    @model_validator(mode="after")
    def _trains_something(self) -> "TrainParams":
        if not self.epochs and self.architecture != "transfer":
            raise ValueError("epochs: at least 1 for this architecture")
        return self


class AugmentParams(_Section):
    """How training images are augmented."""

    #: Fraction of the epochs after which augmentation reaches full strength; starting at full strength slows learning.
    full_after: Share
    #: Maximum rotation in degrees, in either direction.
    rotation: float = Field(ge=0, le=180)
    #: Whether to mirror half of the images.
    flip: bool
    #: Minimum and maximum fraction of the image area shown; above 1 adds a border.
    area: tuple[PositiveFloat, PositiveFloat]
    #: Maximum factor by which the width is stretched relative to the height.
    aspect: float = Field(ge=1, le=4)
    #: Share of images that are turned by 90 degrees, like a photograph without its orientation tag.
    quarter_turn: Share
    #: Maximum relative changes.
    brightness: Share
    contrast: Share
    saturation: Share
    white_balance: Share
    #: Shares of images that each augmentation applies to.
    grey: Share
    low_light: Share
    blur: Share
    jpeg: Share
    noise: Share
    erase: Share
    #: Parameter of the beta distribution for mixup; 0 turns it off.
    mixup: float = Field(ge=0, le=1)


class EvaluateParams(_Section):
    """How confidence intervals are computed."""

    bootstrap_rounds: int = Field(ge=100, le=100_000)
    seed: int = Field(ge=0)


class ExportParams(_Section):
    """Name and maximum size of the bundle."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    limit_mb: float = Field(gt=0)


class Params(_Section):
    """All of `params.yaml`. DVC reruns a stage only if a section that it depends on changes."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    download: DownloadParams
    input: InputParams
    prepare: PrepareParams
    train: TrainParams
    augment: AugmentParams
    evaluate: EvaluateParams
    export: ExportParams


def read_params(path: Path) -> Params:
    """Return the validated parameters.

    Raises:
        TrainingError: the file is missing or not YAML, or a parameter is unknown, has the wrong type or is out of
            range.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise TrainingError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    try:
        return Params.model_validate(_tuples(content))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())
        raise TrainingError(f"{path}: {problems}.") from error


def _tuples(content: object) -> object:
    """Turn YAML lists into tuples, because strict validation accepts only a tuple for `area`."""
    if isinstance(content, dict):
        return {key: _tuples(value) for key, value in content.items()}
    return tuple(content) if isinstance(content, list) else content
