"""`fetch_pip.py FILE` downloads the pip wheel that requirements/pip.txt pins, for a Python without pip.

It needs only Python 3.8 or newer. pip runs from the wheel, without installation: `python FILE/pip`.
"""

import configparser
import hashlib
import os
import re
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urljoin


def package_index() -> str:
    """URL of the package index that pip is configured to use."""
    config = configparser.RawConfigParser()
    files = ("/etc/pip.conf", "~/.config/pip/pip.conf", os.environ.get("PIP_CONFIG_FILE", ""))
    config.read(map(os.path.expanduser, files))
    configured = config.get("global", "index-url", fallback="https://pypi.org/simple")
    return os.environ.get("PIP_INDEX_URL") or configured


def download(url: str) -> bytes:
    """Content at a URL."""
    with urllib.request.urlopen(url) as response:  # noqa: S310 - the index is the user's
        content: bytes = response.read()
    return content


def pinned_wheel() -> bytes:
    """The wheel of the package index that has the version and the hash in requirements/pip.txt."""
    lock = Path("requirements/pip.txt").read_text()
    version = lock.partition("pip==")[2].split()[0]
    page = package_index().rstrip("/") + "/pip/"
    link = re.search(rf'href="((?:[^"#]*/)?pip-{re.escape(version)}-py3-none-any\.whl)', download(page).decode())
    wheel = download(urljoin(page, link[1])) if link else b""
    if hashlib.sha256(wheel).hexdigest() not in lock:
        sys.exit(f"{page} does not have pip {version} with the hash in requirements/pip.txt.")
    return wheel


if __name__ == "__main__":
    try:
        Path(sys.argv[1]).write_bytes(pinned_wheel())
    except (OSError, ValueError) as error:
        sys.exit(
            f"{sys.executable} has no pip, and pip could not be downloaded ({error}). Check the network or install pip "
            "(apt-get install python3-pip), then run make again."
        )
