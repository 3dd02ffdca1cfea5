"""The formats of images, recognized by their first bytes."""

#: First bytes -> name of the format, which is also the file extension.
_STARTS = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
    (b"II+\0", "tif"),
    (b"MM\0+", "tif"),
)
_MEDIA_TYPES = {"jpg": "image/jpeg", "tif": "image/tiff"}
#: What all current browsers show.
_SHOWN = frozenset({"jpg", "png", "gif", "bmp", "webp", "avif"})


def extension_of(data: bytes) -> str:
    """The usual file extension of an image, such as `jpg`; `bin` if its format is unknown."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return "avif" if data[8:12] in (b"avif", b"avis") else "heic"
    return next((name for start, name in _STARTS if data.startswith(start)), "bin")


def media_type_of(data: bytes) -> str:
    """The media type of an image, such as `image/jpeg`."""
    extension = extension_of(data)
    if extension == "bin":
        return "application/octet-stream"
    return _MEDIA_TYPES.get(extension, f"image/{extension}")


def is_shown_by_browsers(data: bytes) -> bool:
    """Whether browsers can show an image."""
    return extension_of(data) in _SHOWN
