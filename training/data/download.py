"""`make data-download`: download the public data set of cats and dogs."""

import hashlib
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bundle.manifest import sha256_of
from training.errors import TrainingError, run_command
from training.files import PARAMS_FILE, parse_paths
from training.params import DownloadParams, read_params

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30


def download(params: DownloadParams, folder: Path) -> Path:
    """Return the path of the archive in `folder`, downloaded unless it is already there.

    Raises:
        TrainingError: the server cannot be reached, the disk is full, or the checksum does not match.
    """
    target = folder / params.url.rsplit("/", 1)[-1]
    if target.is_file() and sha256_of(target) == params.sha256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part")
    try:
        with urllib.request.urlopen(params.url, timeout=_TIMEOUT_S) as response:  # noqa: S310 (verified by checksum)
            sha256 = _save(response, partial)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise TrainingError(
            f"Cannot download {params.url} (download.url in params.yaml): {error}. "
            "Without internet access, set DATA=path to images that you have."
        ) from error
    if sha256 != params.sha256:
        partial.unlink()
        raise TrainingError(f"{params.url} does not match download.sha256 in params.yaml. The file was removed.")
    partial.replace(target)
    return target


def _save(response: Any, target: Path) -> str:
    """Write the response body to `target` and return its SHA-256."""
    size = int(response.headers.get("Content-Length") or 0)
    if size > shutil.disk_usage(target.parent).free:
        raise TrainingError(f"Disk is full: {target.parent} needs {size / 1e9:.1f} GB. Free some space and run again.")
    digest = hashlib.sha256()
    with target.open("wb") as file, tqdm(total=size or None, unit="B", unit_scale=True, desc=target.stem) as bar:
        while chunk := response.read(_CHUNK_BYTES):
            digest.update(chunk)
            bar.update(file.write(chunk))
    return digest.hexdigest()


def main() -> None:
    """Download the archive and print the next command."""
    paths = parse_paths("training.data.download", __doc__, params=PARAMS_FILE, out=Path("data"))
    print(f"Now run: make train DATA={download(read_params(paths.params).download, paths.out)}")


if __name__ == "__main__":
    run_command(main)
