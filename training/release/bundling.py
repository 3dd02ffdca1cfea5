"""Write a network as a bundle that workers can load, and check that a loaded bundle makes the same predictions.

This module does not import Keras, so that `pawqueue models` starts fast.
"""

import argparse
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bundle.familiarity import Prototypes, read_prototypes, with_similarity, write_prototypes
from bundle.golden import RECIPE, TOLERANCE, fingerprint, golden_inputs
from bundle.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    SCHEMA,
    Familiarity,
    Golden,
    Histogram,
    InputSpec,
    Interval,
    Manifest,
    read_manifest,
    sha256_of,
)
from bundle.staging import staged_folder
from training.errors import ERROR_FILE_VARIABLE, TrainingError, run_command

if TYPE_CHECKING:
    import keras

_LIBRARIES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "pillow")


@dataclass(frozen=True)
class BundleFacts:
    """The manifest fields that cannot be derived from the network."""

    name: str
    labels: list[str]
    temperature: float = 1.0
    biases: list[float] = field(default_factory=list)
    metrics: dict[str, Interval] = field(default_factory=dict)
    data: dict[str, str | int | float] = field(default_factory=dict)
    reference: dict[str, Histogram] = field(default_factory=dict)
    #: Text of additional files in the bundle, by name.
    files: dict[str, str] = field(default_factory=dict)
    #: Both or none: what features are compared with, and what turns similarities into familiarity.
    prototypes: Prototypes | None = None
    familiarity: Familiarity | None = None


def write_bundle(
    network: "keras.Model", facts: BundleFacts, folder: Path, check: Callable[[Path], object] = read_manifest
) -> Manifest:
    """Write the bundle to `folder` and return its manifest. An existing bundle is replaced only if `check` passes.

    Args:
        network: in float32, with the calibration folded in; not compiled, or its optimizer would be saved too.
        facts: the rest of the manifest.
        folder: the folder of the bundle.
        check: called with the new bundle before it replaces the old one; raises an error to reject it.

    Raises:
        OSError: the disk is full or not writable.
    """
    with staged_folder(folder) as new:
        network.save(new / MODEL_FILE)
        for name, text in facts.files.items():
            (new / name).write_text(text, encoding="utf-8")
        if facts.prototypes is not None:
            write_prototypes(facts.prototypes, new)
        manifest = _manifest(network, facts, new)
        (new / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        check(new)
    return manifest


def weights_version(network: "keras.Model") -> str:
    """Return the architecture and a hash of the weights. The same weights get the same version on every machine."""
    digest = hashlib.sha256()
    for weight in network.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return f"{network.name.replace('_', '-')}-{digest.hexdigest()[:8]}"


def _manifest(network: "keras.Model", facts: BundleFacts, folder: Path) -> Manifest:
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
        biases=facts.biases,
        metrics=facts.metrics,
        data=facts.data,
        reference=facts.reference,
        familiarity=facts.familiarity,
        golden=Golden(recipe=RECIPE, inputs_sha256=fingerprint(images), outputs=[]),
        sha256={path.name: sha256_of(path) for path in sorted(folder.iterdir())},
        libraries=_library_versions(),
        git_revision=_git_revision(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    raw = _complete(network, manifest, folder).predict(images, verbose=0)
    similarities = raw[:, -1].tolist() if facts.familiarity else []
    outputs = manifest.read_outputs(raw).probabilities.astype(float).tolist()
    golden = manifest.golden.model_copy(update={"outputs": outputs, "similarities": similarities})
    return manifest.model_copy(update={"golden": golden})


def _complete(network: "keras.Model", manifest: Manifest, folder: Path) -> "keras.Model":
    """The network of a bundle, with the similarity to the prototypes if it has them."""
    import keras  # noqa: PLC0415 (see the module docstring)

    if manifest.familiarity is None:
        return network
    prototypes = read_prototypes(folder, whitened=manifest.familiarity.whitened)
    return with_similarity(keras, network, manifest.familiarity.layer, prototypes)


def _library_versions() -> dict[str, str]:
    """Installed versions of the libraries that affect predictions."""
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git_revision() -> str | None:
    """The checked-out commit, with `-dirty` if tracked files were changed; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 (fixed words)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def check_parity(folder: Path) -> None:
    """Check in a fresh process that the bundle returns its golden outputs.

    Raises:
        TrainingError: the bundle cannot be loaded, or its predictions in float32 differ too much.
    """
    command = [sys.executable, "-m", "training.release.bundling", str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != ERROR_FILE_VARIABLE}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["the process exited without an error message"]
        raise TrainingError(f"{folder} fails the parity check: {lines[-1].removeprefix('Error: ')}")
    print(done.stdout, end="")


def _golden_difference(folder: Path, precision: str) -> float:
    """Return the largest difference between an output and its golden output in the manifest."""
    import keras  # noqa: PLC0415 (see the module docstring)

    manifest = read_manifest(folder)
    network = keras.saving.load_model(folder / MODEL_FILE, compile=False)
    if precision == "bfloat16":
        for layer in network._flatten_layers(include_self=False):  # Keras has no public API for nested layers
            if layer is not network.layers[-1]:
                layer.dtype_policy = "mixed_bfloat16"
    images = golden_inputs(manifest.input.height, manifest.input.width)
    return manifest.golden_distance(_complete(network, manifest, folder).predict(images, verbose=0))


def main() -> None:
    """Check the bundle named on the command line in this process."""
    parser = argparse.ArgumentParser(
        prog="python -m training.release.bundling",
        description="Check that a bundle returns the golden outputs in its manifest.",
        epilog="example: python -m training.release.bundling build/bundle",
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for precision, limit in TOLERANCE.items():
        difference = _golden_difference(folder, precision)
        if difference <= limit:
            print(f"{precision}: within {difference:.5f} of the golden outputs")
        elif precision == "float32":
            raise TrainingError(f"in float32, outputs differ by {difference:.4f}; at most {limit} is allowed.")
        else:
            print(f"{precision}: {difference:.4f} from the golden outputs, so workers serve this bundle in float32")


if __name__ == "__main__":
    run_command(main)
