"""`python -m gateway.http.api_page` prints `docs/api.md`, generated from the OpenAPI document."""

import json
from collections.abc import Iterator
from typing import Any

from contract.settings import load_settings
from gateway.app import ROUTES
from gateway.http.openapi import write_document

_HEAD = """# The HTTP API

{description}

A running gateway serves this documentation at `/docs` (Swagger UI) and `/redoc`, and the OpenAPI 3.1 document at
`/openapi.json`. [recipes.md](recipes.md) shows how to use the API from curl, Python and JavaScript. If the gateway
requires API keys (`PAWQUEUE_ACCESS`), send one as `Authorization: Bearer <key>` or `X-API-Key: <key>`. Each operation
lists the scope that the key needs. `make docs` generates this page.
"""
#: Errors that are documented once, for all operations with a scope.
_SHARED = ("unauthorized", "forbidden", "rate_limited", "url_too_long", "headers_too_large", "unavailable")


def document() -> dict[str, Any]:
    """The OpenAPI document of a gateway that requires API keys."""
    return write_document(ROUTES, load_settings({"PAWQUEUE_ACCESS": "required"}))


def render() -> str:
    """The page."""
    api = document()
    parts = [_HEAD.format(description=api["info"]["description"])]
    for tag in api["tags"]:
        parts.append(f"\n## {tag['x-displayName']}\n{tag['description']}\n")
        parts += [_operation(*row) for row in _operations(api, tag["name"])]
    parts.append(_errors(api))
    return "".join(parts)


def _operations(api: dict[str, Any], tag: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield method.upper(), path, operation


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"\n### `{method} {path}`\n{operation['summary']}.", _scope(operation)]
    if "description" in operation:
        parts.append(" " + " ".join(operation["description"].split()))
    parts.append("\n")
    parts += _parameters(operation)
    parts += _bodies(operation)
    parts += _responses(operation)
    return "".join(parts)


def _scope(operation: dict[str, Any]) -> str:
    scopes: list[str] = next((names for scheme in operation.get("security", ()) for names in scheme.values()), [])
    if not scopes:
        return " Open."
    return f" Scope{'s' if len(scopes) > 1 else ''} {' and '.join(f'`{scope}`' for scope in scopes)}."


def _parameters(operation: dict[str, Any]) -> Iterator[str]:
    rows = operation.get("parameters", ())
    if rows:
        yield "\n| parameter | in | type | description |\n|---|---|---|---|\n"
    for row in rows:
        yield f"| `{row['name']}` | {row['in']} | {_kind(row['schema'])} | {row['description']} |\n"


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    kind = str(schema.get("type", "any"))
    return "text" if kind == "string" else kind


def _bodies(operation: dict[str, Any]) -> Iterator[str]:
    body = operation.get("requestBody")
    if body:
        kinds = ", ".join(f"`{mimetype}`" for mimetype in body["content"])
        yield f"\nBody: {kinds}.\n"


def _responses(operation: dict[str, Any]) -> Iterator[str]:
    codes: list[str] = []
    shown = False
    yield "\n"
    for status, row in sorted(operation["responses"].items()):
        problems = (row.get("content") or {}).get("application/problem+json")
        if problems:
            codes += [f"{status} `{code}`" for code in problems["examples"] if code not in _SHARED]
            continue
        headers = ", ".join(f"`{name}`" for name in row.get("headers") or ())
        yield f"- **{status}** {row['description']}{f' Headers: {headers}.' if headers else ''}\n"
        if not shown:
            yield from _example(row)
        shown = True
    if codes:
        yield f"\nErrors: {', '.join(codes)}.\n"


def _example(row: dict[str, Any]) -> Iterator[str]:
    media = next(iter(row["content"].values()))
    examples = media.get("examples") or {"example": {"value": media.get("example")}}
    name, example = next(iter(examples.items()))
    value = example["value"]
    language, text = ("", value) if isinstance(value, str) else ("json", json.dumps(value, indent=2))
    yield f"\n  <details><summary>{name}</summary>\n\n  ```{language}\n"
    yield "".join(f"  {line}\n" for line in text.splitlines())
    yield "  ```\n  </details>\n\n"


def _errors(api: dict[str, Any]) -> str:
    rows: dict[str, tuple[str, str, str]] = {}
    for methods in api["paths"].values():
        for operation in methods.values():
            for status, row in operation["responses"].items():
                problems = (row.get("content") or {}).get("application/problem+json") or {"examples": {}}
                for code, example in problems["examples"].items():
                    rows[code] = (status, example["value"]["title"], example["value"]["detail"])
    shared = ", ".join(f"`{code}`" for code in _SHARED)
    head = (
        "\n## Errors\nErrors are problem details (RFC 9457, `application/problem+json`). Every operation "
        f"with a scope may also return {shared}.\n\n| status | code | title | meaning |\n|---|---|---|---|\n"
    )
    lines = [f"| {status} | `{code}` | {title} | {text} |\n" for code, (status, title, text) in rows.items()]
    return head + "".join(sorted(lines))


if __name__ == "__main__":
    print(render(), end="")
