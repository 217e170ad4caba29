"""The page /docs: the table of `api` for people."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from mbn_deploy.serve.api import ERRORS, OPERATIONS, SCHEMAS, Endpoint, Json, errors_of

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>mbn-deploy: HTTP interface</title>
<link rel="icon" href="icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="style.css">
</head>
<body class="docs">
<header>
<h1>HTTP interface</h1>
<p><a href=".">Back to the classifier</a> · <a href="openapi.json">openapi.json</a></p>
</header>
<main>
<p>Every error is JSON: <code>{{"error": {{"code": "…", "message": "…"}}}}</code>. {token}</p>
{sections}
</main>
</body>
</html>
"""
_BEARER = "Replace TOKEN by the token that was printed when the server started."


def docs_html(url: str, *, with_token: bool) -> str:
    """Return the page; its examples use the server's `url`, and a placeholder for the token if there is one."""
    sections = "\n".join(_section(operation, url, with_token=with_token) for operation in OPERATIONS)
    return _PAGE.format(sections=sections, token=_BEARER if with_token else "")


def _section(operation: Endpoint, url: str, *, with_token: bool) -> str:
    lines = [
        f"<h2><code>{operation.method} {escape(operation.path)}</code></h2>",
        f"<p>{escape(operation.summary)}</p>",
    ]
    if operation.example:
        bearer = " -H 'Authorization: Bearer TOKEN'" if with_token and operation.needs_token else ""
        lines.append(f"<pre>{escape(operation.example.format(url=url, bearer=bearer), quote=False)}</pre>")
    if operation.parameters:
        lines.append(_list([(item["name"], _parameter(item)) for item in operation.parameters]))
    schema = None if operation.returns is None else operation.returns[1]
    if schema is not None:
        lines.append("<h3>Response</h3>" + _list(list(_fields(SCHEMAS[schema], ""))))
    errors = [(str(status), ERRORS[status]) for status in errors_of(operation)]
    lines.append(f"<details><summary>Errors</summary>{_list(errors)}</details>")
    return f"<section>{''.join(lines)}</section>"


def _list(rows: list[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt><code>{escape(name)}</code></dt><dd>{escape(text)}</dd>' for name, text in rows)}</dl>"


def _parameter(item: Json) -> str:
    schema = item["schema"]
    otherwise = f", by default {schema['default']}" if "default" in schema else ""
    return f"{item['description']} From {schema['minimum']} to {schema['maximum']}{otherwise}."


def _fields(schema: Json, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the description of every field of a schema, including those of nested objects and arrays."""
    if "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    seen = set()
    for kind in schema.get("oneOf", ()):
        for path, text in _fields(kind, prefix):
            if path not in seen:
                seen.add(path)
                yield path, text
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        if "properties" in field:
            yield from _fields(field, f"{path}.")
        elif "items" in field:
            yield from _fields(field["items"], f"{path}[].")
        else:
            yield path, field["description"]
