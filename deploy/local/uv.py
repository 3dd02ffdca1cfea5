"""Brings uv, which brings everything else, with whatever this Python has: venv, pip, or neither (Python 3.8)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.local.stamps import ROOT, digest, lock_file
from deploy.local.steps import StepError, step

CACHE = ROOT / ".cache"
UV_VENV = CACHE / "uv-venv"
UV_FOLDER = CACHE / "uv-folder"

#: uv reads no settings of pip; these two decide whether it reaches packages at all.
_UV_NAME_OF_PIP_SETTING = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}
_PIP_SETTING = re.compile(r"(?:global|install|:env:)\.([\w-]+)='(.*)'")
_UV_SETTINGS = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_CONFIG_FILE")


class SetupError(Exception):
    """Something is missing that the set-up cannot bring; the text says what to do."""


def bring_uv() -> Path:
    """Path of uv, installed into a folder of its own; a uv of the system serves where there is no pip.

    Raises:
        SetupError: there is no way to it.
    """
    for folder, install in ((UV_VENV, _into_venv), (UV_FOLDER, _into_folder)):
        if _is_current(folder) or install():
            (folder / "stamp").write_text(digest("uv"))
            return folder / "bin" / "uv"
    found = shutil.which("uv")
    if found:
        return Path(found)
    raise SetupError(
        f"{sys.executable} has neither venv nor pip: install them (apt-get install python3-venv) or install uv, "
        "then run make again."
    )


def uv_environment() -> dict[str, str]:
    """The environment for uv; where uv has no settings of its own, it gets pip's index and certificates."""
    environ = dict(os.environ)
    if not any(environ.get(name) for name in _UV_SETTINGS) and not _has_uv_file():
        for name, value in _PIP_SETTING.findall(_pip_settings()):
            if name in _UV_NAME_OF_PIP_SETTING:
                environ.setdefault(_UV_NAME_OF_PIP_SETTING[name], value)
    return environ


def _is_current(folder: Path) -> bool:
    stamp = folder / "stamp"
    return stamp.exists() and stamp.read_text() == digest("uv") and (folder / "bin" / "uv").exists()


def _into_venv() -> bool:
    shutil.rmtree(UV_VENV, ignore_errors=True)
    try:
        step("room for uv", [sys.executable, "-m", "venv", str(UV_VENV)])
    except StepError:  # Debian's Python comes without ensurepip
        shutil.rmtree(UV_VENV, ignore_errors=True)
        return False
    _pip_install([str(UV_VENV / "bin" / "python")])
    return True


def _into_folder() -> bool:
    if not _answers([sys.executable, "-m", "pip", "--version"]):
        return False
    shutil.rmtree(UV_FOLDER, ignore_errors=True)
    _pip_install([sys.executable], "--target", str(UV_FOLDER))
    return True


def _pip_install(python: list[str], *options: str) -> None:
    pip = [*python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options]
    try:
        step("uv", [*pip, "--require-hashes", "-r", str(lock_file("uv"))])
    except StepError as error:
        raise SetupError(
            f"{error}\npip could not install uv: see its message above, check the network and the package index "
            "that pip is told to use, then run make again."
        ) from None


def _pip_settings() -> str:
    pythons = (str(UV_VENV / "bin" / "python"), sys.executable)
    for python in pythons:
        if Path(python).exists() and (text := _answers([python, "-m", "pip", "config", "list"])):
            return text
    return ""


def _answers(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def _has_uv_file() -> bool:
    homes = (Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"), Path("/etc"))
    return any((home / "uv" / "uv.toml").exists() for home in homes)


if __name__ == "__main__":
    try:
        os.execve(bring_uv(), ["uv", *sys.argv[1:]], uv_environment())  # noqa: S606 - no shell is wanted
    except SetupError as error:
        sys.exit(str(error))
