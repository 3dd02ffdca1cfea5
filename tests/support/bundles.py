"""Versions of models in a model store, made from the included bundle."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from bundle.locate import INCLUDED


def add_version(store: Path, name: str, version: str, labels: Sequence[str] = ("cat", "dog")) -> Path:
    """Add the included network under another name and with other labels. Like an import, it appears complete."""
    target, hidden = store / name / version, store / name / f".{version}"
    shutil.copytree(INCLUDED, hidden)
    manifest = json.loads((hidden / "manifest.json").read_text())
    text = json.dumps({**manifest, "name": name, "version": version, "labels": list(labels)})
    (hidden / "manifest.json").write_text(text)
    hidden.rename(target)
    return target
