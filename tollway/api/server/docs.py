"""The API's description, for programs and as one page to read, without anything to download."""

from __future__ import annotations

from html import escape
from typing import Any

from litestar import Litestar, Request
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin

from tollway.api.server.description import METHODS, described
from tollway.openmeter.wire import Json

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f23 }
h2 { margin-top: 2.5rem } details { border-top: 1px solid #d8dee4; padding: .4rem 0 }
summary { cursor: pointer } code { font: 13px ui-monospace, monospace }
td { padding: .1rem .8rem .1rem 0; vertical-align: top }
.method { display: inline-block; width: 4.5rem; font-weight: 600 }
"""


def document(app: Litestar, openapi_schema: Json) -> Json:
    """The description of all operations of an application, from what Litestar wrote of them."""
    handlers = {
        handler.handler_name: handler
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        if isinstance(handler, HTTPRouteHandler) and handler.tags
    }
    return described(openapi_schema, list(handlers.values()))


class Description(JsonRenderPlugin):
    """The description for programs."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, document(request.app, openapi_schema))


class ReadableDocs(OpenAPIRenderPlugin):
    """Renders the description by sections: each operation with what it takes and what it answers."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return page(document(request.app, openapi_schema)).encode()


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
    rows = [
        (f"{found['name']} ({found['in']})", _kind(found.get("schema", {})), found.get("description", ""))
        for found in operation.get("parameters", [])
    ]
    content = operation.get("requestBody", {}).get("content", {})
    taken = rows + [row for media in list(content.values())[:1] for row in _fields(media.get("schema", {}), schema)]
    answers = []
    for code, answer in operation["responses"].items():
        fields = [
            row
            for media_type, media in answer.get("content", {}).items()
            if media_type != "application/problem+json"
            for row in _fields(media["schema"], schema)
        ]
        answers.append(f"<p>{escape(code)}: {escape(answer['description'])}</p>{_table(fields)}")
    about = f"<p>{escape(operation['description'])}</p>" if "description" in operation else ""
    summary = f"{head} {escape(operation['summary'])}"
    return f"<details><summary>{summary}</summary>{about}{_table(taken)}{''.join(answers)}</details>"


def _table(rows: list[tuple[str, str, str]]) -> str:
    cells = (
        f"<tr><td><code>{escape(name)}</code><td>{escape(kind)}<td>{escape(meaning)}" for name, kind, meaning in rows
    )
    return f"<table>{''.join(cells)}</table>" if rows else ""


def _fields(found: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, str, str]]:
    for option in found.get("anyOf", []):
        if "$ref" in option:
            found = option
    if found.get("type") == "array":
        found = found.get("items", {})
    if "$ref" in found:
        found = schema["components"]["schemas"].get(_name(found), {})
    required = set(found.get("required", ()))
    return [
        (f"{name}{'*' if name in required else ''}", _kind(field), field.get("description", ""))
        for name, field in found.get("properties", {}).items()
    ]


def _name(reference: dict[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return _name(field)
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(option) for option in field["anyOf"]))
    if "enum" in field:
        return " | ".join(str(value) for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    kind = field.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
