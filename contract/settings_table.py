"""`python -m contract.settings_table` prints `docs/settings.md`, made from the table of settings."""

from types import UnionType
from typing import Any, get_args

from contract.settings import Settings, variable_of

_HEAD = """# Settings

Every setting is an environment variable, read once when a process starts. An empty variable counts as unset; a value
that does not fit is an error that names it. A secret may also stand in a file, which the variable with `_FILE` at its
end names: `PAWQUEUE_REDIS_URL_FILE=path`. This page is made by `make docs`; a test compares it with the code.

| variable | type | default | unit | what it does |
|---|---|---|---|---|
"""


def render() -> str:
    """The page."""
    return _HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: Any) -> str:
    unit = field.json_schema_extra["unit"]
    default = "" if field.default is None else f"`{field.default}`"
    return f"| `{variable_of(name)}` | {_type_name(field.annotation)} | {default} | {unit} | {field.description} |\n"


def _type_name(kind: Any) -> str:
    if isinstance(kind, UnionType):
        return _type_name(next(part for part in get_args(kind) if part is not type(None)))
    if choices := get_args(kind):
        return " or ".join(f"`{choice}`" for choice in choices)
    return {"str": "text", "int": "integer", "float": "number", "Path": "path", "SecretStr": "secret"}[kind.__name__]


if __name__ == "__main__":
    print(render(), end="")
