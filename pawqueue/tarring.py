"""Pictures as the body of one request: a tar whose members are named by `custom_id`."""

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from pawqueue.picture import LoadedPicture
from pawqueue.wire import Body

_PIECE_BYTES = 1 << 20
_END = bytes(2 * tarfile.BLOCKSIZE)


def tar_body(pictures: Sequence[LoadedPicture]) -> Body:
    """Open the tar anew for every try; in one piece where all is in memory."""
    if all(picture.content is not None for picture in pictures):
        whole = b"".join(_pieces(pictures))
        return lambda: nullcontext(whole)
    return lambda: nullcontext(_pieces(pictures))


def tar_bytes(pictures: Sequence[LoadedPicture]) -> int:
    """Length of the tar."""
    return sum(len(_header(item)) + item.size_bytes + len(_padding(item.size_bytes)) for item in pictures) + len(_END)


def _pieces(pictures: Sequence[LoadedPicture]) -> Iterator[bytes]:
    for picture in pictures:
        yield _header(picture)
        if picture.content is not None:
            yield picture.content
        else:
            yield from _from_disk(picture)
        yield _padding(picture.size_bytes)
    yield _END


def _header(picture: LoadedPicture) -> bytes:
    info = tarfile.TarInfo(picture.custom_id)
    info.size = picture.size_bytes
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % tarfile.BLOCKSIZE)


def _from_disk(picture: LoadedPicture) -> Iterator[bytes]:
    left = picture.size_bytes
    with picture.path.open("rb") as file:
        while left:
            piece = file.read(min(_PIECE_BYTES, left))
            if not piece:
                raise OSError(f"{picture.path} has become shorter while it was sent")
            left -= len(piece)
            yield piece
