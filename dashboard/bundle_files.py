"""Reads the plain files of the served bundle: manifest, card, answers to the test images. It opens no model."""

import csv
import json
from pathlib import Path

from contract.settings import Settings
from dashboard.snapshot import Served, SourceState

_MANIFEST, _CARD, _ANSWERS = "manifest.json", "README.md", "predictions.csv"
#: Where the shipped bundle lies, beside the packages.
_SHIPPED = Path(__file__).parent.parent / "models" / "cats-dogs"
_FILE_MAX_BYTES = 50_000_000


def bundle_folder(settings: Settings) -> Path:
    """The bundle that workers on this machine serve: the one set, else the promoted one, else the one shipped."""
    champion = settings.state_dir / "models" / "champion"
    return settings.model or (champion if champion.exists() else _SHIPPED)


class BundleReader:
    """Reads again what has changed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state = SourceState("The bundle")
        self._served: Served | None = None
        #: Path and time of change of what was read last.
        self._read: tuple[str, float] | None = None

    def read(self, now_s: float) -> tuple[SourceState, Served | None]:
        """Look once."""
        folder = bundle_folder(self._settings)
        try:
            stamp = (str(folder.resolve()), (folder / _MANIFEST).stat().st_mtime)
            if stamp != self._read:
                self._served, self._read = read_bundle(folder), stamp
            self._state = self._state.answered(now_s)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._served, self._read = None, None
            self._state = self._state.failed(now_s, _explain(folder, error))
        return self._state, self._served


def read_bundle(folder: Path) -> Served:
    """Read the files of the bundle at `folder`; card and answers may be missing.

    Raises:
        OSError, ValueError, KeyError, TypeError: the manifest is missing or is none.
    """
    manifest = json.loads(_text(folder / _MANIFEST))
    if not isinstance(manifest, dict) or not isinstance(manifest["labels"], list):
        raise TypeError("no manifest")
    card, answers = folder / _CARD, folder / _ANSWERS
    return Served(
        manifest,
        _text(card) if card.is_file() else "",
        _answers(answers, [str(label) for label in manifest["labels"]]) if answers.is_file() else (),
    )


def _answers(path: Path, labels: list[str]) -> tuple[tuple[str, str, float], ...]:
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(_answer(row, labels) for row in csv.DictReader(file))


def _answer(row: dict[str, str], labels: list[str]) -> tuple[str, str, float]:
    said = max(labels, key=lambda label: float(row[label]))
    return row["label"], said, float(row[said])


def _text(path: Path) -> str:
    if path.stat().st_size > _FILE_MAX_BYTES:
        raise ValueError(f"{path.name} is too large")
    return path.read_text(encoding="utf-8")


def _explain(folder: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"No manifest at {folder}; PAWQUEUE_MODEL names the folder of the bundle that workers serve."
    return f"The files at {folder} cannot be read; export or copy the bundle again."
