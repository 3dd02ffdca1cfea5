"""`make data-download`: fetch the public set of cats and dogs, for those with internet access."""

import argparse
import hashlib
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bundle.manifest import sha256_of
from training.errors import TrainingError, run_command
from training.params import DownloadParams, read_params

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30


def download(params: DownloadParams, folder: Path) -> Path:
    """Fetch the archive into `folder`, unless it is there already, and return its path.

    Raises:
        TrainingError: there is no way to the address, too little disk, or the file is not the one expected.
    """
    target = folder / params.url.rsplit("/", 1)[-1]
    if target.is_file() and sha256_of(target) == params.sha256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    try:
        with urllib.request.urlopen(params.url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 (checked by its checksum)
            found = _copy(answer, unfinished, folder)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise TrainingError(
            f"{params.url} (download.url in params.yaml) cannot be fetched ({error}); without internet access give "
            "DATA=path to images you have."
        ) from error
    if found != params.sha256:
        unfinished.unlink()
        raise TrainingError(
            f"What {params.url} gave is not the file of download.sha256 in params.yaml; it was removed."
        )
    unfinished.replace(target)
    return target


def _copy(answer: Any, target: Path, folder: Path) -> str:
    """Write the body to `target` and return its SHA-256."""
    size = int(answer.headers.get("Content-Length") or 0)
    if size > shutil.disk_usage(folder).free:
        raise TrainingError(f"The disk of {folder} has too little space for {size / 1e9:.1f} GB; free some.")
    digest = hashlib.sha256()
    with target.open("wb") as file, tqdm(total=size or None, unit="B", unit_scale=True, desc=target.stem) as bar:
        while chunk := answer.read(_CHUNK_BYTES):
            digest.update(chunk)
            bar.update(file.write(chunk))
    return digest.hexdigest()


def main() -> None:
    """Read the command line and download."""
    parser = argparse.ArgumentParser(
        prog="python -m training.download",
        description=__doc__,
        epilog="example: python -m training.download --out data",
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, default=Path("data"))
    given = parser.parse_args()
    print(f"Now run: make train DATA={download(read_params(given.params).download, given.out)}")


if __name__ == "__main__":
    run_command(main)
