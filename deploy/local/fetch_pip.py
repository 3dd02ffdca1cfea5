"""`fetch_pip.py FILE` downloads the pip that requirements/pip.txt pins, for a Python that comes without one.

A wheel is a zip file, so pip runs from it as it is. Standard library only, for Python 3.8 or newer.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urljoin

CONFIG_FILES = ("/etc/pip.conf", "~/.config/pip/pip.conf", os.environ.get("PIP_CONFIG_FILE", ""))


def package_index() -> str:
    """URL of the package index that pip is configured to use."""
    config = configparser.RawConfigParser()
    config.read(map(os.path.expanduser, CONFIG_FILES))
    configured = config.get("global", "index-url", fallback="https://pypi.org/simple")
    return os.environ.get("PIP_INDEX_URL") or configured


def download(url: str) -> bytes:
    """Content at a URL."""
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - the index is the user's
        content: bytes = answer.read()
    return content


def main(target: Path) -> None:
    """Write the pinned wheel to `target`."""
    pinned = Path("requirements/pip.txt").read_text()
    version = pinned.partition("pip==")[2].split()[0]
    page = package_index().rstrip("/") + "/pip/"
    links = re.findall(rf'href="((?:[^"#]*/)?pip-{re.escape(version)}-py3-none-any\.whl)', download(page).decode())
    content = download(urljoin(page, links[0])) if links else b""
    if hashlib.sha256(content).hexdigest() not in pinned:
        sys.exit(f"{page} does not have pip {version} with the hash in requirements/pip.txt.")
    partial = target.with_suffix(".part")
    partial.write_bytes(content)
    partial.replace(target)  # an interrupted download leaves no half of it


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (OSError, ValueError) as error:
        sys.exit(
            f"{sys.executable} has no pip, and pip could not be downloaded ({error}). Check the network or install pip "
            "(apt-get install python3-pip), then run make again."
        )
