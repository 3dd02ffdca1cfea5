"""Reads and verifies the manifest of a bundle, which describes its model."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bundle.familiarity import PROTOTYPES_FILE, WHITENING_FILE
from bundle.target import Filter, Resize, Target

SCHEMA = 1
#: The name of a model, as a regular expression.
NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
#: Files that hold a network, but are not a bundle.
MODEL_SUFFIXES = frozenset({".keras", ".h5", ".hdf5", ".zip"})
MODEL_FILE = "model.keras"
#: The network as a TensorFlow graph with constant weights, if it is not a Keras file; see `operations.py`.
GRAPH_FILE = "model.pb"
MANIFEST_FILE = "manifest.json"
#: One with 1,000 labels has 1 MB.
_MANIFEST_MAX_BYTES = 20_000_000


#: Of a file in the bundle itself: programs that copy a bundle write to this name.
_FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]


class BundleError(Exception):
    """The bundle is unusable; the message names the file and says what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(_Part):
    """The model's input: uint8 RGB of shape (batch, height, width, 3), values 0..255; the model rescales them."""

    height: int = Field(ge=8, le=4096)
    width: int = Field(ge=8, le=4096)
    resize: Resize = "squash"
    filter: Filter = "bilinear"

    @property
    def target(self) -> Target:
        """What `decode` makes of an image for this model."""
        return Target(self.height, self.width, self.resize, self.filter)


class Interval(_Part):
    """A measured value with its 95% confidence interval."""

    value: float
    low: float | None = None
    high: float | None = None


class Histogram(_Part):
    """A histogram, either numeric (`edges` has one more item than `counts`) or by category (`names`)."""

    counts: list[int]
    edges: list[float] | None = None
    names: list[str] | None = None


class Golden(_Part):
    """The recipe of the golden inputs, and the float32 model's outputs for them."""

    recipe: str
    inputs_sha256: str
    #: Probabilities: one row per golden input, one column per label.
    outputs: list[list[float]]
    #: Similarity to the nearest prototype, per golden input; empty without prototypes.
    similarities: list[float] = []


class Familiarity(_Part):
    """Which features are compared with the prototypes, and what turns a similarity into a familiarity."""

    #: Name of the layer whose output, averaged over the image, is the features.
    layer: str
    #: Percentiles of the similarities of the validation images: minimum, 1 %, 2 %, ..., maximum.
    percentiles: list[float] = Field(min_length=2)
    #: Whether the features are multiplied with the whitening matrix of the bundle.
    whitened: bool = False

    def of(self, similarities: NDArray[np.floating]) -> NDArray[np.float32]:
        """The share of the validation images that are less similar, for each similarity."""
        shares = np.linspace(0, 1, len(self.percentiles))
        found: NDArray[np.float64] = np.interp(similarities, self.percentiles, shares, left=0)
        return found.astype(np.float32)


class Imported(_Part):
    """Where an imported network came from, for information; see `importer/`."""

    #: `keras 3`, `keras 2`, `saved model`, ...
    kind: str
    file: str
    #: SHA-256 (hex) of the file, or of all files of the folder.
    sha256: str
    scale: str
    #: SHA-256 (hex) of the Python files that rebuilt its layers, by name. They are not part of the bundle.
    modules: dict[str, str] = {}
    #: Whether code in the file was run to read it (`--trust-code`).
    trusted_code: bool = False


class Outputs(NamedTuple):
    """What a model returns for a batch of images."""

    #: float32 (batch, labels).
    probabilities: NDArray[np.float32]
    #: float32 (batch,), 0..1; None if the bundle has no prototypes.
    familiarity: NDArray[np.float32] | None = None


class Manifest(_Part):
    """The description of a model. Reading it does not load the model."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    name: str = Field(pattern=f"^{NAME}$")
    version: str = Field(min_length=1, max_length=64)
    architecture: str
    labels: list[str] = Field(min_length=2)
    input: InputSpec
    #: `sigmoid`: one unit, the probability of `labels[1]`. `softmax`: one unit per label. `multi_label`: the same, but
    #: each label has its own probability.
    output: Literal["sigmoid", "softmax", "multi_label"]
    #: Of a `multi_label` model: an image has the labels whose probability is at least this.
    threshold: float = Field(default=0.5, gt=0, lt=1)
    #: `keras`: the file `model.keras`. `graph`: the file `model.pb`, which runs in float32.
    format: Literal["keras", "graph"] = "keras"
    #: Calibration temperature, and what is added to the logit of each label, for information only: the last layer
    #: already applies them.
    temperature: float = Field(default=1.0, gt=0)
    biases: list[float] = []
    metrics: dict[str, Interval] = {}
    #: Fingerprint and counts of the training data.
    data: dict[str, str | int | float] = {}
    #: Distributions in the training data, by feature: confidence, familiarity, label, brightness and
    #: contrast, width and height.
    reference: dict[str, Histogram] = {}
    #: None if the bundle has no prototypes; see `familiarity.py`.
    familiarity: Familiarity | None = None
    golden: Golden
    #: SHA-256 (hex) by file name.
    sha256: dict[_FileName, str]
    libraries: dict[str, str] = {}
    git_revision: str | None = None
    created_at: str | None = None
    imported: Imported | None = None
    #: Operations of the graph that may do more than compute, such as read files. Workers refuse them unless
    #: `PAWQUEUE_TRUST_BUNDLE_CODE` is `true`.
    unsafe_operations: list[str] = []

    @property
    def model_file(self) -> str:
        """Name of the file with the network."""
        return GRAPH_FILE if self.format == "graph" else MODEL_FILE

    def to_json(self) -> str:
        """The manifest as indented JSON, with members in the order of the fields."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    def read_outputs(self, raw: NDArray[np.floating]) -> Outputs:
        """Convert raw outputs (batch, columns): the units of the model, and with prototypes the similarity."""
        values = np.asarray(raw, dtype=np.float32).reshape(len(raw), -1)
        units = 1 if self.output == "sigmoid" else len(self.labels)
        columns = units + bool(self.familiarity)
        if values.shape[1] != columns:
            raise BundleError(
                f"{self.name}: the model has {values.shape[1]} outputs per image, but a {self.output} "
                f"with {len(self.labels)} labels needs {columns}. Export the bundle again."
            )
        familiarity = self.familiarity.of(values[:, units]) if self.familiarity else None
        values = values[:, :units]
        probabilities = np.concatenate([1 - values, values], axis=1) if self.output == "sigmoid" else values
        return Outputs(probabilities, familiarity)

    def golden_distance(self, raw: NDArray[np.floating]) -> float:
        """Largest difference between raw outputs for the golden inputs and those in the bundle."""
        found = [self.read_outputs(raw).probabilities - np.array(self.golden.outputs, np.float32)]
        if self.familiarity:
            found.append(raw[:, -1:] - np.array(self.golden.similarities, np.float32)[:, None])
        return float(np.abs(np.concatenate(found, axis=1)).max())


def read_manifest(folder: Path, checksum: str | None = None) -> Manifest:
    """Read and verify the bundle at `folder`; with a checksum, only that very bundle is accepted.

    A bundle's checksum is the SHA-256 (hex) of its manifest, which contains those of all other files.

    Raises:
        BundleError: a file is missing, cannot be read or was changed after export, the manifest is invalid, or the
            checksum differs.
    """
    try:
        return _read_manifest(folder, checksum)
    except OSError as error:
        raise BundleError(
            f"{error.filename or folder} cannot be read ({error.strerror}). Check who may read it."
        ) from error


def import_advice(path: Path) -> str | None:
    """What to do with a file or folder that holds a network, but is not a bundle; None if it is something else."""
    is_folder = any((path / name).is_file() for name in ("saved_model.pb", "keras_model.h5"))
    if not is_folder and not (path.suffix in MODEL_SUFFIXES and path.is_file()):
        return None
    return (
        f"{path} is a Keras model, not a bundle. Import it with `.venv/bin/pawqueue models import {path} --name NAME "
        "--labels LABEL,LABEL`, which prints how to serve it."
    )


def _read_manifest(folder: Path, checksum: str | None) -> Manifest:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise BundleError(
            import_advice(folder)
            or f"No bundle at {folder}: {MANIFEST_FILE} is missing. "
            "Set PAWQUEUE_MODEL to a bundle, or create one with `make train`."
        )
    if path.stat().st_size > _MANIFEST_MAX_BYTES:
        raise BundleError(f"{path} has more than {_MANIFEST_MAX_BYTES:,} bytes. Export the bundle again.")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if checksum not in (None, found):
        raise BundleError(
            f"The bundle at {folder} is not the one that PAWQUEUE_MODEL_CHECKSUM names (its checksum is {found}): "
            "restore the right bundle, or set the variable to the checksum that `pawqueue models promote` printed."
        )
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise BundleError(f"{path} is not a valid manifest ({problems}). Export the bundle again.") from error
    if manifest.schema_version != SCHEMA:
        raise BundleError(
            f"{path} has schema {manifest.schema_version}; this version of Pawqueue supports only {SCHEMA}. "
            "Export the bundle again."
        )
    _verify_files(folder, manifest)
    return manifest


def _verify_files(folder: Path, manifest: Manifest) -> None:
    required = [manifest.model_file]
    if manifest.familiarity:
        required += [PROTOTYPES_FILE, *([WHITENING_FILE] if manifest.familiarity.whitened else [])]
    for name in required:
        if name not in manifest.sha256:
            raise BundleError(f"{folder / MANIFEST_FILE} contains no checksum for {name}. Export the bundle again.")
    for name, expected in manifest.sha256.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing. Export or copy the bundle again.")
        if sha256_of(path) != expected:
            raise BundleError(f"{path} differs from its checksum. Export or copy the bundle again.")


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
