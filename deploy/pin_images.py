"""Pins foreign images: writes the current digest of each tag into the files that use it. `make pins` runs this.

A tag can be moved to other content; a digest cannot. Run it when you want newer base images, and commit the result.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: `docker.io/library/redis:7`, with or without a digest. Images of this project are not pinned: their tag is a commit.
_REFERENCE = re.compile(r"(docker\.io/(?!pawqueue/)[\w./-]+:[\w.-]+)(@sha256:[0-9a-f]{64})?")
_FILES = ("Makefile", "docker-compose.yml", "Dockerfile.*", "deploy/k8s/base/*.yaml")


def files(root: Path = ROOT) -> Iterator[Path]:
    """The files that name foreign images."""
    for pattern in _FILES:
        yield from sorted(root.glob(pattern))


def images_in(text: str) -> list[str]:
    """The foreign images that a file names, without their digests."""
    return sorted({found[1] for found in _REFERENCE.finditer(text)})


def pinned(text: str, digests: dict[str, str]) -> str:
    """`text` with the digest (`sha256:...`) of each image."""
    return _REFERENCE.sub(lambda found: f"{found[1]}@{digests[found[1]]}", text)


def digest_in_registry(image: str) -> str:
    """The digest of the image for all platforms, which docker reads from its registry."""
    command = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main(resolve: Callable[[str], str] = digest_in_registry, root: Path = ROOT) -> int:
    """Pin all images; returns 1 if a digest cannot be read. Then no file is changed."""
    texts = {path: path.read_text() for path in files(root)}
    try:
        digests = {image: resolve(image) for text in texts.values() for image in images_in(text)}
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"A digest could not be read ({error}). Check docker and the network, then retry.", file=sys.stderr)
        return 1
    for path, text in texts.items():
        if (changed := pinned(text, digests)) != text:
            path.write_text(changed)
            print(f"Pinned the images in {path.relative_to(root)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
