"""A network and what is known of it, written as a bundle that workers can load."""

import hashlib
import importlib.metadata
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from bundle.golden import RECIPE, fingerprint, golden_inputs
from bundle.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    SCHEMA,
    Golden,
    Histogram,
    InputSpec,
    Interval,
    Manifest,
    read_manifest,
    sha256_of,
)
from training.folders import replace_folder

_LIBRARIES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "pillow")


@dataclass(frozen=True)
class BundleFacts:
    """What a bundle's manifest says besides what can be read off the network."""

    name: str
    labels: list[str]
    temperature: float = 1.0
    metrics: dict[str, Interval] = field(default_factory=dict)
    data: dict[str, str | int | float] = field(default_factory=dict)
    reference: dict[str, Histogram] = field(default_factory=dict)
    #: Further files of the bundle, by name, as text.
    files: dict[str, str] = field(default_factory=dict)


def write_bundle(
    network: keras.Model, facts: BundleFacts, folder: Path, check: Callable[[Path], object] = read_manifest
) -> Manifest:
    """Write the bundle to `folder`, replacing what is there only when the new one is whole and `check` finds no fault.

    `network` is float32 and not compiled, so that no optimizer is saved; its temperature is folded in already.

    Raises:
        OSError: the disk is full or not writable; `folder` is then as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        network.save(unfinished / MODEL_FILE)
        for name, text in facts.files.items():
            (unfinished / name).write_text(text, encoding="utf-8")
        manifest = _manifest(network, facts, unfinished)
        (unfinished / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        check(unfinished)
        replace_folder(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return manifest


def weights_version(network: keras.Model) -> str:
    """Name a network by its weights, so that the same training gives the same version anywhere."""
    digest = hashlib.sha256()
    for weight in network.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return f"{network.name.replace('_', '-')}-{digest.hexdigest()[:8]}"


def _manifest(network: keras.Model, facts: BundleFacts, folder: Path) -> Manifest:
    _, height, width, _ = network.input_shape
    output: Literal["sigmoid", "softmax"] = "sigmoid" if network.output_shape[-1] == 1 else "softmax"
    images = golden_inputs(height, width)
    manifest = Manifest(
        schema=SCHEMA,
        name=facts.name,
        version=weights_version(network),
        architecture=network.name,
        labels=facts.labels,
        input=InputSpec(height=height, width=width),
        output=output,
        temperature=facts.temperature,
        metrics=facts.metrics,
        data=facts.data,
        reference=facts.reference,
        golden=Golden(recipe=RECIPE, inputs_sha256=fingerprint(images), outputs=[]),
        sha256={name: sha256_of(folder / name) for name in (MODEL_FILE, *facts.files)},
        libraries=library_versions(),
        git_revision=git_revision(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    answers = manifest.probabilities(network.predict(images, verbose=0))
    golden = manifest.golden.model_copy(update={"outputs": answers.astype(float).tolist()})
    return manifest.model_copy(update={"golden": golden})


def library_versions() -> dict[str, str]:
    """Versions of the libraries that shape a model's answers, as installed here."""
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_revision() -> str | None:
    """Give the commit that is checked out, with `-dirty` where tracked files differ; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 (fixed words)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
