"""What the set-up has done already, noted inside `.venv` so that both go together (Python 3.8)."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
LOCKS = ROOT / "requirements"
_STAMPS = VENV / ".stamps"


def stamp_of(name: str) -> str:
    """What was noted when a step last succeeded; empty if it never did."""
    try:
        return (_STAMPS / name).read_text()
    except OSError:
        return ""


def note(name: str, text: str) -> None:
    """Remember that a step succeeded."""
    _STAMPS.mkdir(exist_ok=True)
    (_STAMPS / name).write_text(text)


def lock_file(lock: str) -> Path:
    """Path of a lock file."""
    return LOCKS / f"{lock}.txt"


def digest(lock: str) -> str:
    """Fingerprint of a lock file."""
    return hashlib.sha256(lock_file(lock).read_bytes()).hexdigest()


def project_digest() -> str:
    """Fingerprint of what an editable installation depends on: the project file and the names of the packages."""
    packages = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + repr(packages).encode()).hexdigest()


def venv_is_home() -> bool:
    """Whether the environment can be used: its scripts name this folder, so one that was moved cannot."""
    return VENV_PYTHON.exists() and stamp_of("home") == str(ROOT)


def locks_are_current(locks: tuple[str, ...]) -> bool:
    """Whether these lock files are those that were installed."""
    return all(stamp_of(lock) == digest(lock) for lock in locks)


def project_is_current() -> bool:
    """Whether this project is installed as it is now."""
    return stamp_of("project") == project_digest()


def redis_is_current() -> bool:
    """Whether the Redis found last time is still there."""
    noted = stamp_of("redis")
    return bool(noted) and Path(noted).exists()
