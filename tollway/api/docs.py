"""The API's description as one page to read, without anything to download."""

from __future__ import annotations

from html import escape
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

METHODS = ("get", "post", "put", "delete")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f23 }
h2 { margin-top: 2.5rem } details { border-top: 1px solid #d8dee4; padding: .4rem 0 }
summary { cursor: pointer } code { font: 13px ui-monospace, monospace }
td { padding: .1rem .8rem .1rem 0; vertical-align: top }
.method { display: inline-block; width: 4.5rem; font-weight: 600 }
"""


class ReadableDocs(OpenAPIRenderPlugin):
    """Renders the description by sections: each operation with what it takes."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return page(openapi_schema).encode()


def page(schema: dict[str, Any]) -> str:
    """The page of an OpenAPI description."""
    sections: dict[str, list[str]] = {}
    for path, item in schema["paths"].items():
        for method in METHODS:
            operation = item.get(method)
            if operation:
                section = (operation.get("tags") or ["Other"])[0]
                sections.setdefault(section, []).append(_operation(path, method, operation, schema))
    title = escape(f"{schema['info']['title']} {schema['info']['version']}")
    about = escape(schema["info"].get("description") or "")
    body = "".join(f"<h2>{escape(name)}</h2>{''.join(found)}" for name, found in sections.items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
        f'<h1>{title}</h1><p>{about}</p><p><a href="/openapi.json">openapi.json</a></p>{body}</html>'
    )


def _operation(path: str, method: str, operation: dict[str, Any], schema: dict[str, Any]) -> str:
    head = f"<span class=method>{method.upper()}</span><code>{escape(path)}</code>"
    about = escape(operation.get("description") or operation.get("summary") or "")
    rows = [
        (f"{found['name']} ({found['in']})", _kind(found.get("schema", {})), found.get("description", ""))
        for found in operation.get("parameters", [])
    ]
    content = operation.get("requestBody", {}).get("content", {})
    for media in content.values():
        rows += _fields(media.get("schema", {}), schema)
    table = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{escape(kind)}<td>{escape(meaning)}" for name, kind, meaning in rows
    )
    codes = ", ".join(operation.get("responses", {}))
    return f"<details><summary>{head} {about}</summary><table>{table}</table><p>Answers: {escape(codes)}</p></details>"


def _fields(found: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, str, str]]:
    for option in found.get("oneOf", []):
        if "$ref" in option:
            found = option
    if "$ref" in found:
        found = schema["components"]["schemas"].get(found["$ref"].rpartition("/")[2], {})
    required = set(found.get("required", ()))
    return [
        (f"{name}{'*' if name in required else ''}", _kind(field), field.get("description", ""))
        for name, field in found.get("properties", {}).items()
    ]


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2].rpartition("_")[2]
    if "oneOf" in field:
        return " or ".join(dict.fromkeys(_kind(option) for option in field["oneOf"]))
    if "enum" in field:
        return " | ".join(str(value) for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    kind = field.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
