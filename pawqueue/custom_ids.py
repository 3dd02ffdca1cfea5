"""The name under which a gateway knows a file: the file's own, unless archives could take it for something else."""

import hashlib

_MAX_CHARS = 200


def custom_id_of(name: str) -> str:
    """The name itself where it is a plain relative path; else its readable end behind a hash of the whole."""
    parts = name.split("/")
    plain = name.isprintable() and all(parts) and not {".", ".."} & set(parts) and not {"\\", ":"} & set(name)
    if plain and len(name) <= _MAX_CHARS:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    readable = "".join(char if char.isprintable() and char not in "/\\" else "_" for char in parts[-1])
    return f"{digest}-{readable[-100:]}"
