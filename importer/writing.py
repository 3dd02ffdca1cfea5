"""Writes the bundle of an imported network into the model store."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bundle.golden import RECIPE, fingerprint, golden_inputs
from bundle.manifest import (
    GRAPH_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    SCHEMA,
    Golden,
    Imported,
    InputSpec,
    Manifest,
    sha256_of,
)
from bundle.store import ModelStore
from importer import wrap
from importer.network import Network
from importer.outputs import Meaning
from importer.request import Request
from importer.scale import Scale

#: Images that are predicted at once.
_BATCH = 16


@dataclass(frozen=True)
class Plan:
    """Everything that determines a bundle."""

    request: Request
    network: Network
    scale: Scale
    meaning: Meaning
    labels: list[str]
    input: InputSpec
    imported: Imported

    def probabilities(self, pixels: NDArray[np.uint8], scale: Scale | None = None) -> NDArray[np.float32]:
        """One column per label, as the network itself computes them, without the layers that the bundle adds."""
        parts = [pixels[at : at + _BATCH] for at in range(0, len(pixels), _BATCH)]
        raw = [self.network.raw(wrap.prepared(part, self.network.form, scale or self.scale)) for part in parts]
        values = wrap.finished(np.concatenate(raw), self.meaning.end).astype(np.float32)
        return np.concatenate([1 - values, values], axis=1) if self.meaning.output == "sigmoid" else values

    @property
    def version(self) -> str:
        """The same file and options get the same version."""
        facts: list[Any] = [
            self.labels,
            self.input.model_dump(),
            self.meaning.output,
            self.meaning.end,
            self.scale.name,
        ]
        facts += [self.imported.sha256, self.imported.modules, str(self.network.form)]
        facts += [self.request.name, self.request.output, self.request.signature]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
        slug = re.sub(r"[^a-z0-9.]+", "-", self.network.name.lower()).strip("-.")[:40] or "network"
        return f"{slug}-{digest}"


def write(plan: Plan, store: ModelStore, libraries: dict[str, str], check: Callable[[Path], None]) -> Manifest:
    """Write the bundle to the store, unless `check` raises an error; returns its manifest.

    A bundle that is already there stays as it is.
    """
    with store.adding(plan.request.name, plan.version) as new:
        manifest = _write_files(plan, new, libraries)
        check(new)
    return manifest


def _write_files(plan: Plan, folder: Path, libraries: dict[str, str]) -> Manifest:
    if plan.network.model is None:
        graph = wrap.wrapped_graph(plan.network, plan.scale, plan.meaning.end)
        file = folder / GRAPH_FILE
        file.write_bytes(graph.SerializeToString(deterministic=True))
    else:
        file = folder / MODEL_FILE
        wrap.wrapped_model(plan.network, plan.scale, plan.meaning.end).save(file)
    images = golden_inputs(plan.input.height, plan.input.width)
    manifest = Manifest(
        schema=SCHEMA,
        name=plan.request.name,
        version=plan.version,
        architecture=plan.network.name,
        labels=plan.labels,
        input=plan.input,
        output=plan.meaning.output,
        format="graph" if plan.network.model is None else "keras",
        golden=Golden(
            recipe=RECIPE,
            inputs_sha256=fingerprint(images),
            outputs=plan.probabilities(images).astype(float).tolist(),
        ),
        sha256={file.name: sha256_of(file)},
        libraries=libraries | {"keras": keras.__version__, "tensorflow": tf.__version__},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        imported=plan.imported,
        unsafe_operations=list(plan.network.unsafe_operations),
    )
    (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    return manifest
