"""System files: metadata and previews that operating systems leave in folders and archives.

The gateway, the client and training skip them, because no user means to send them. Uses only the standard library,
because the client imports this module.
"""

#: Whole names, in lower case. Also folders, whose contents are junk too.
_NAMES = frozenset(
    {
        "__macosx",  # macOS puts a second copy of the metadata of each file there
        ".ds_store",
        ".localized",
        "icon\r",
        ".spotlight-v100",
        ".trashes",
        ".fseventsd",
        ".temporaryitems",
        ".documentrevisions-v100",
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        "@eadir",  # previews on Synology disks
    }
)
#: macOS stores the metadata of `a.jpg` as `._a.jpg` where the file system cannot store it.
_PREFIX = "._"


def is_junk(path: str) -> bool:
    """Whether a file was left by an operating system, judging by its path."""
    return any(part.startswith(_PREFIX) or part.lower() in _NAMES for part in path.replace("\\", "/").split("/"))
