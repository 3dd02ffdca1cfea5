"""The knobs of `params.yaml`, typed and checked before anything runs."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.errors import TrainingError

Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class InputParams(_Section):
    """What the network sees, in pixels."""

    height: int = Field(ge=32, le=1024)
    width: int = Field(ge=32, le=1024)


class PrepareParams(_Section):
    """Which images are kept and how they are split."""

    seed: int = Field(ge=0)
    #: Training images are kept this much larger than the input, so that crops stay sharp.
    enlarge: float = Field(ge=1, le=2)
    #: Images with a shorter side are dropped.
    min_side_px: int = Field(ge=1)
    #: Images whose perceptual hashes differ in at most this many of 64 bits stay in one split.
    near_duplicate_bits: int = Field(ge=0, le=16)
    validation: float = Field(gt=0, lt=0.5)
    test: float = Field(gt=0, lt=0.5)
    #: Folder names that stand for a label of another name.
    rename: dict[str, str] = {}
    #: An archive that unpacks to more is refused.
    max_unpacked_gb: float = Field(gt=0)
    #: At most this many images of each class, the first by hash; 0 takes all.
    max_per_class: int = Field(ge=0)


class TrainParams(_Section):
    """How a network is fitted."""

    architecture: str
    backbone_weights: str = "random"
    #: A bundle's `model.keras`, of the same architecture and classes, to go on from; empty starts from drawn weights.
    start_weights: str = ""
    seed: int = Field(ge=0)
    epochs: int = Field(ge=1, le=10_000)
    batch_size: int = Field(ge=2, le=4096)
    #: Peak of the cosine schedule.
    learning_rate: float = Field(gt=0, le=10)
    warmup_epochs: float = Field(ge=0)
    weight_decay: float = Field(ge=0, lt=1)
    dropout: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    #: Share of the running average kept at each step; 0 switches averaging off.
    ema: float = Field(ge=0, lt=1)
    #: Epochs without a better validation loss before training stops; 0 never stops early.
    patience: int = Field(ge=0)
    #: Side of the images that `compact` is trained on, in its first and its last epochs; 0 is the input's. Smaller
    #: ones train faster, and a network that was shown crops does better on images larger than those.
    start_side_px: int = Field(ge=0)
    end_side_px: int = Field(ge=0)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"]


class AugmentParams(_Section):
    """How training images are varied; a share is the part of images that a change is applied to."""

    #: Part of the epochs after which variations have their full strength; strong ones from the start slow learning.
    full_after: Share
    #: Degrees to either side.
    rotation: float = Field(ge=0, le=180)
    flip: bool
    #: Least and greatest part of the image's area that is shown; above 1 shows a border.
    area: tuple[float, float]
    #: Greatest stretch of width against height, as a factor.
    aspect: float = Field(ge=1, le=4)
    #: Quarter turns, as of a photograph without its orientation tag.
    quarter_turn: Share
    #: Greatest relative change.
    brightness: Share
    contrast: Share
    saturation: Share
    white_balance: Share
    grey: Share
    low_light: Share
    blur: Share
    jpeg: Share
    noise: Share
    erase: Share
    #: Parameter of the beta distribution by which pairs are mixed; 0 switches mixing off.
    mixup: float = Field(ge=0, le=1)


class EvaluateParams(_Section):
    """How results are judged."""

    bootstrap_rounds: int = Field(ge=100, le=100_000)
    seed: int = Field(ge=0)


class ExportParams(_Section):
    """What the bundle is called and may weigh."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    limit_mb: float = Field(gt=0)


class DownloadParams(_Section):
    """Where the public set of images is had."""

    url: str = Field(pattern=r"^https?://")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Params(_Section):
    """All of `params.yaml`; a section is what one stage depends on."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    download: DownloadParams
    input: InputParams
    prepare: PrepareParams
    train: TrainParams
    augment: AugmentParams
    evaluate: EvaluateParams
    export: ExportParams


def read_params(path: Path) -> Params:
    """Read and check the knobs.

    Raises:
        TrainingError: the file is missing or no YAML, or a knob is unknown, of the wrong type or out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}.") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise TrainingError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    try:
        return Params.model_validate(_tuples(content))
    except ValidationError as error:
        knobs = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())
        raise TrainingError(f"{path}: {knobs}.") from error


def _tuples(content: object) -> object:
    """YAML knows lists only; strict checking wants the tuple it was declared as."""
    if isinstance(content, dict):
        return {key: _tuples(value) for key, value in content.items()}
    return tuple(content) if isinstance(content, list) else content
