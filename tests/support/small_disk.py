"""A real file system that is small enough to fill."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

_PIECE_BYTES = 1 << 20


class SmallDisk:
    """A file system of its own at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, free_bytes: int = 0) -> None:
        """Leave only `free_bytes`."""
        try:
            with self._ballast.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(_PIECE_BYTES))
        except OSError:
            size = self._ballast.stat().st_size - free_bytes
        with self._ballast.open("ab") as file:
            file.truncate(size)

    def make_room(self) -> None:
        """Undo `fill`."""
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path, size_kb: int) -> Iterator[SmallDisk]:
    """Mount a file system of this size at `folder`; skips the test where nothing may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k,mode=0777", "tmpfs", str(folder)]
    for prefix in ([], ["sudo", "-n"]):
        if _succeeds([*prefix, *mount]):
            try:
                yield SmallDisk(folder)
            finally:
                subprocess.run([*prefix, "umount", "--lazy", str(folder)], check=True)
            return
    with _mounted_by_a_user(mount) as root:
        yield SmallDisk(root / folder.relative_to("/"))


@contextmanager
def _mounted_by_a_user(mount: Sequence[str]) -> Iterator[Path]:
    """The root folder of a process with its own mounts, which needs no privileges where the kernel allows it."""
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        '"$@" && echo mounted && cat',
        "sh",
        *mount,
    ]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        pytest.skip("a small disk needs Linux")
    with process:
        assert process.stdout
        if process.stdout.readline() != b"mounted\n":
            pytest.skip("this user may not mount a small disk")
        yield Path(f"/proc/{process.pid}/root")


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
