"""Images as the body of one request: a tar whose members are named by `custom_id`."""

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from pawqueue.image import LoadedImage
from pawqueue.wire import Body

_PIECE_BYTES = 1 << 20
_END = bytes(2 * tarfile.BLOCKSIZE)


def tar_body(images: Sequence[LoadedImage]) -> Body:
    """Open the tar anew for every try; in one piece where all is in memory."""
    if all(image.content is not None for image in images):
        whole = b"".join(_pieces(images))
        return lambda: nullcontext(whole)
    return lambda: nullcontext(_pieces(images))


def tar_bytes(images: Sequence[LoadedImage]) -> int:
    """Length of the tar."""
    return sum(len(_header(item)) + item.size_bytes + len(_padding(item.size_bytes)) for item in images) + len(_END)


def _pieces(images: Sequence[LoadedImage]) -> Iterator[bytes]:
    for image in images:
        yield _header(image)
        if image.content is not None:
            yield image.content
        else:
            yield from _from_disk(image)
        yield _padding(image.size_bytes)
    yield _END


def _header(image: LoadedImage) -> bytes:
    info = tarfile.TarInfo(image.custom_id)
    info.size = image.size_bytes
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % tarfile.BLOCKSIZE)


def _from_disk(image: LoadedImage) -> Iterator[bytes]:
    left = image.size_bytes
    with image.path.open("rb") as file:
        while left:
            piece = file.read(min(_PIECE_BYTES, left))
            if not piece:
                raise OSError(f"{image.path} has become shorter while it was sent")
            left -= len(piece)
            yield piece
