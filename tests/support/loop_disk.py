"""A real ext4 file system in a file, which can lose its power and be frozen."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class LoopDisk:
    """A file system of its own at `path`."""

    def __init__(self, path: Path, device: Path) -> None:
        self.path = path
        self._device = device

    @contextmanager
    def after_power_failure(self, folder: Path) -> Iterator[Path]:
        """Mount what is on the disk now, without what the kernel has not written yet, at `folder`."""
        copy = folder.with_suffix(".disk")
        shutil.copyfile(self._device, copy)
        with _mounted(copy, folder):
            yield folder

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let writes to the disk wait."""
        _run("fsfreeze", "--freeze", self.path)
        try:
            yield
        finally:
            _run("fsfreeze", "--unfreeze", self.path)


@contextmanager
def loop_disk(folder: Path) -> Iterator[LoopDisk]:
    """Mount a file system at `folder`; skips the test where none may be mounted."""
    device = folder.with_suffix(".disk")
    with device.open("wb") as file:
        file.truncate(48 << 20)
    try:
        _run("mkfs.ext4", "-q", device)
        with _mounted(device, folder):
            yield LoopDisk(folder, device)
    except FileNotFoundError:
        pytest.skip("mkfs.ext4 is not installed")


@contextmanager
def _mounted(device: Path, folder: Path) -> Iterator[None]:
    folder.mkdir()
    try:
        # The journal is written when something is synced, and otherwise not before the test has ended.
        _run("mount", "-o", "loop,commit=300", device, folder)
    except subprocess.CalledProcessError:
        pytest.skip("this user may not mount a file system")
    try:
        yield
    finally:
        _run("umount", folder)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)
