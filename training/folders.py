"""Folders that appear whole or not at all."""

import os
import shutil
from pathlib import Path


def replace_folder(new: Path, folder: Path) -> None:
    """Put the finished folder `new` in the place of `folder`; both lie on one file system."""
    new.chmod(0o755)  # temporary folders are private
    if not folder.exists():
        new.rename(folder)
        return
    old = folder.with_name(f".{folder.name}-old-{os.getpid()}")
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)
