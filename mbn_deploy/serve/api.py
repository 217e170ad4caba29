"""The HTTP interface as a table: the routes and /openapi.json are made from it, and the page /docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbn_deploy.version import __version__

Json = dict[str, Any]

_NUMBER, _INTEGER, _TEXT = {"type": "number"}, {"type": "integer"}, {"type": "string"}


def _object(**properties: Json) -> Json:
    """A JSON object that has all of `properties`."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _described(schema: Json, text: str) -> Json:
    return {**schema, "description": text}


_PREDICTION = _object(
    index=_described(_INTEGER, "The class, counted from 0."),
    label=_described(_TEXT, "Its name, as the model's maker wrote it; not HTML. The index where there are no names."),
    score=_described(_NUMBER, "Its probability, from 0 to 1."),
)
_MILLISECONDS = _object(
    preprocess=_described(_NUMBER, "Decoding and resizing."),
    inference=_described(_NUMBER, "The model. Waiting for a turn is in neither."),
)
_SIZE = _object(width=_INTEGER, height=_INTEGER)

SCHEMAS: Json = {
    "Prediction": _PREDICTION,
    "Answer": _object(
        predictions=_described(
            {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}}, "The best classes, best first."
        ),
        image=_described(_SIZE, "The picture as it is stored, in pixels."),
        milliseconds=_MILLISECONDS,
    ),
    "Info": _object(
        model=_TEXT, format=_TEXT, precision=_TEXT, backend=_TEXT, threads=_INTEGER, input=_SIZE, classes=_INTEGER,
        camera=_described({"type": "boolean"}, "Whether there is a camera to watch."),
        limits=_object(
            upload_bytes=_INTEGER,
            pixels=_described(_INTEGER, "Of a JPEG; other pictures may have a quarter."), upload_seconds=_NUMBER,
        ),
        version=_TEXT,
    ),
    "Health": _object(status={"const": "ok"}),
    "Token": _object(token=_TEXT),
    "Error": _object(
        error=_object(
            code=_described(_TEXT, "One word that does not change."), message=_described(_TEXT, "For a person.")
        )
    ),
}  # fmt: skip

ERRORS = {
    400: "The request is wrong: no body, or a parameter that is no such number.",
    401: "The token is missing or wrong.",
    403: "A page of another site asked.",
    404: "There is nothing at this path, no camera, or no such frame.",
    405: "The path knows other methods.",
    408: "The upload took too long.",
    413: "The picture has too many bytes or too many pixels.",
    415: "A form was sent; the body must be the picture's bytes alone.",
    421: "The Host header names another machine.",
    422: "The body is no picture that can be read.",
    503: "Too much to do, or the camera does not work; try again after the seconds in Retry-After.",
}


@dataclass(frozen=True)
class Operation:
    """One path with one method.

    `answers` are the errors it can give beside those that every operation can; `returns` is the type of
    its answer and the schema's name, if it has one.
    """

    name: str
    method: str
    path: str
    summary: str
    status: int
    returns: tuple[str, str | None] | None
    errors: tuple[int, ...] = ()
    needs_token: bool = True
    parameters: tuple[Json, ...] = ()
    body: Json | None = None
    example: str = ""


_TOP_K = {
    "name": "top_k", "in": "query", "required": False, "description": "How many classes.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 5},
}  # fmt: skip
_NUMBER_OF_FRAME = {
    "name": "number", "in": "query", "required": False,
    "description": "Of the frame, as an event names it; the last few are kept. Without it the next one is waited for.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 10**9},
}  # fmt: skip
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_PICTURE = {
    "required": True,
    "description": "The bytes of one picture: JPEG, PNG, WebP, AVIF, BMP, GIF, TIFF, PPM or JPEG 2000.",
    "content": {"image/*": _BYTES, "application/octet-stream": _BYTES},
}  # fmt: skip
_LOGIN = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Token"}}},
}

OPERATIONS = (
    Operation(
        "classify", "POST", "/classify", "The most likely classes of a picture.", 200, ("application/json", "Answer"),
        (400, 408, 413, 415, 422, 503), parameters=(_TOP_K,), body=_PICTURE,
        example="curl --data-binary @cat.jpg '{url}classify?top_k=3'{bearer}",
    ),
    Operation(
        "info", "GET", "/info", "What runs, and its limits.", 200, ("application/json", "Info"),
        example="curl '{url}info'{bearer}",
    ),
    Operation(
        "frame", "GET", "/camera/frame.jpg",
        "The camera's next frame, or one that was just shown; X-Frame is its number.", 200, ("image/jpeg", None),
        (400, 404, 503), parameters=(_NUMBER_OF_FRAME,), example="curl '{url}camera/frame.jpg' -o frame.jpg{bearer}",
    ),
    Operation(
        "events", "GET", "/camera/events",
        "Server-sent events: `frame` (an Answer and its number), `end` when the source has no more, `failed`.", 200,
        ("text/event-stream", None), (404, 503), example="curl -N '{url}camera/events'{bearer}",
    ),
    Operation(
        "health", "GET", "/health", "Whether the server answers.", 200, ("application/json", "Health"), (),
        needs_token=False, example="curl '{url}health'",
    ),
    Operation(
        "login", "POST", "/login", "Sets a cookie for a browser that knows the token.", 204, None,
        (400, 401, 408, 413, 503), needs_token=False, body=_LOGIN,
    ),
    Operation(
        "openapi", "GET", "/openapi.json", "This description, for programs.", 200, ("application/json", None), (),
        needs_token=False,
    ),
    Operation("docs", "GET", "/docs", "This description, for people.", 200, ("text/html", None), (), needs_token=False),
)  # fmt: skip

# The page: path -> file in page/, its type. Not part of the interface.
FILES = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/app.js": ("app.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/favicon.ico": ("icon.svg", "image/svg+xml"),  # what browsers ask for beside /openapi.json
}
OPEN_PATHS = (*FILES, *(operation.path for operation in OPERATIONS if not operation.needs_token))


def errors_of(operation: Operation) -> list[int]:
    """Every error that an operation can give, in order."""
    common = {403, 421} | ({401} if operation.needs_token else set())
    return sorted(common | set(operation.errors))


def openapi() -> Json:
    """The OpenAPI 3.1 description."""
    paths: Json = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mbn-deploy",
            "version": __version__,
            "description": "Classifies pictures with one MobileNet.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "If the server has a token; one that can be reached from elsewhere always has.",
                }
            },
        },
    }


def _operation(operation: Operation) -> Json:
    made: Json = {"operationId": operation.name, "summary": operation.summary, "responses": {}}
    if operation.parameters:
        made["parameters"] = list(operation.parameters)
    if operation.body is not None:
        made["requestBody"] = operation.body
    if operation.needs_token:
        made["security"] = [{"token": []}, {}]
    made["responses"][str(operation.status)] = _success(operation)
    for status in errors_of(operation):
        schema = {"$ref": "#/components/schemas/Error"}
        made["responses"][str(status)] = {
            "description": ERRORS[status],
            "content": {"application/json": {"schema": schema}},
        }
    return made


def _success(operation: Operation) -> Json:
    if operation.returns is None:
        return {"description": "Done."}
    kind, schema = operation.returns
    content: Json = {} if schema is None else {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"description": operation.summary, "content": {kind: content}}
