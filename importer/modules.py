"""Runs the Python files that a user passes with `--module`, and collects what they define."""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from importer.errors import ImportFailedError


def run_modules(paths: Sequence[str]) -> dict[str, Any]:
    """The classes and functions that the files define, by name.

    Raises:
        ImportFailedError: a file is missing, or fails.
    """
    found: dict[str, Any] = {}
    for text in paths:
        path = Path(text)
        if not path.is_file():
            raise ImportFailedError(f"--module {text}: no such file.")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportFailedError(f"--module {text}: not a Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        try:
            spec.loader.exec_module(module)
        # The user's code can raise anything.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ImportFailedError(f"--module {text} fails: {type(error).__name__}: {reason}.") from error
        found |= {
            name: item
            for name, item in vars(module).items()
            if (inspect.isclass(item) or inspect.isfunction(item)) and item.__module__ == module.__name__
        }
    return found


def checksums(paths: Sequence[str]) -> dict[str, str]:
    """SHA-256 (hex) of each file, by name."""
    return {Path(path).name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths}
