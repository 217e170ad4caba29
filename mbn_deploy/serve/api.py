"""The HTTP interface as a table, from which the routes, /openapi.json and the page /docs are built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbn_deploy.version import __version__

Json = dict[str, Any]

_NUMBER, _INTEGER, _TEXT = {"type": "number"}, {"type": "integer"}, {"type": "string"}


def _object(**properties: Json) -> Json:
    """Return the schema of a JSON object with all of `properties`."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _described(schema: Json, text: str) -> Json:
    return {**schema, "description": text}


_PREDICTION = _object(
    index=_described(_INTEGER, "Index of the class or label, from 0; of a binary model 0 is no and 1 is yes."),
    label=_described(_TEXT, "Its name: plain text, not HTML. The index as text if the model has no labels."),
    score=_described(_NUMBER, "Probability, from 0 to 1."),
)
_VALUE = _object(
    index=_described(_INTEGER, "Index of the output, from 0."),
    label=_described(_TEXT, "Its name: plain text, not HTML. The index as text if the model has no names."),
    value=_described(_NUMBER, "The number, in the units of the training."),
)
_MILLISECONDS = _object(
    preprocess=_described(_NUMBER, "Decoding and resizing the image, without waiting for other requests."),
    inference=_described(_NUMBER, "Running the model, without waiting for other requests."),
)
_SIZE = _object(width=_described(_INTEGER, "Width in pixels."), height=_described(_INTEGER, "Height in pixels."))

_MEANING = "What the answers mean: classes, labels, binary, values or embedding."


def _listed(schema: str, text: str) -> Json:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}, "description": text}


def _answer(meanings: tuple[str, ...], **fields: Json) -> Json:
    """Return the schema of the answers that a model with one of these meanings gives."""
    return _object(
        meaning={**_TEXT, "enum": list(meanings), "description": _MEANING},
        **fields,
        image=_described(_SIZE, "Size of the image as it is stored."),
        milliseconds=_MILLISECONDS,
    )


SCHEMAS: Json = {
    "Prediction": _PREDICTION,
    "Value": _VALUE,
    "Names": _answer(
        ("classes", "labels", "binary"),
        predictions=_listed(
            "Prediction",
            "The most likely classes, best first; the labels from the threshold on; or both names of a binary model.",
        ),
    ),
    "Values": _answer(
        ("values",), values=_listed("Value", "The numbers of a regression, in the order of the outputs.")
    ),
    "Embedding": _answer(
        ("embedding",), embedding={"type": "array", "items": _described(_NUMBER, "One feature of the vector.")}
    ),
    "Answer": {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Names", "Values", "Embedding")]},
    "Info": _object(
        model=_described(_TEXT, "Name of the model."),
        format=_described(_TEXT, "Format of the model file: tflite or onnx."),
        precision=_described(_TEXT, "Precision of the model file, such as int8; unknown if it does not say it."),
        backend=_described(_TEXT, "Interpreter that runs the model."),
        threads=_described(_INTEGER, "Number of threads of an inference."),
        input=_described(_SIZE, "Size of the model's input."),
        classes=_described(_INTEGER, "Number of outputs: of classes, labels, values or features; 1 of a binary model."),
        meaning=_described(_TEXT, _MEANING),
        camera=_described({"type": "boolean"}, "Whether the server has a camera."),
        limits=_object(
            upload_bytes=_described(_INTEGER, "Largest image file, in bytes."),
            pixels=_described(_INTEGER, "Largest JPEG, in pixels; other formats may have a quarter of that."),
            upload_seconds=_described(_NUMBER, "Longest time for an upload, in seconds."),
        ),
        version=_described(_TEXT, "Version of mbn-deploy."),
    ),
    "Health": _object(status={"const": "ok", "description": "Always ok."}),
    "Token": _object(token=_TEXT),
    "Error": _object(
        error=_object(
            code=_described(_TEXT, "Stable error code, for programs."),
            message=_described(_TEXT, "Explanation, for people."),
        )
    ),
}

ERRORS = {
    400: "The request is invalid: the body is missing, its length is ambiguous, or a parameter is out of range.",
    401: "The token is missing or wrong.",
    403: "The request came from a page of another site.",
    404: "Unknown path, no camera, or the frame is no longer available.",
    405: "This path does not support the method.",
    408: "The upload took too long.",
    413: "The image has too many bytes or too many pixels.",
    415: "A form was sent; the body must be the image file itself.",
    421: "The Host header is not one of this server's names.",
    422: "The body is not an image that can be read.",
    503: "The server is busy or the camera is not working; try again after the seconds in Retry-After.",
}


@dataclass(frozen=True)
class Endpoint:
    """One path with one method.

    Attributes:
        name: the method of `app.Handlers` that handles it.
        method: the HTTP method.
        path: the path.
        summary: one sentence for the descriptions.
        status: the HTTP status of success.
        returns: media type of the response, and the name of its schema if it has one; None without a body.
        errors: HTTP errors that it can give, beside those of every operation.
        needs_token: whether a token is required if the server has one.
        parameters: OpenAPI parameters of the query.
        body: the OpenAPI request body.
        example: a command line, with `{url}` and `{bearer}` to fill in.
    """

    name: str
    method: str
    path: str
    summary: str
    status: int = 200
    returns: tuple[str, str | None] | None = None
    errors: tuple[int, ...] = ()
    needs_token: bool = True
    parameters: tuple[Json, ...] = ()
    body: Json | None = None
    example: str = ""


_TOP_K = {
    "name": "top_k",
    "in": "query",
    "required": False,
    "description": "Number of names; without it 5 classes, or all labels from the threshold on.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 1000},
}
_THRESHOLD = {
    "name": "threshold",
    "in": "query",
    "required": False,
    "description": "Names with a lower probability are left out; without it 0.5 for labels, and none for others.",
    "schema": {"type": "number", "minimum": 0, "maximum": 1},
}
_FRAME_NUMBER = {
    "name": "number",
    "in": "query",
    "required": False,
    "description": "Number of a recent frame, from an event. Without it, the response is the next frame.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 10**9},
}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_IMAGE = {
    "required": True,
    "description": "One image file: JPEG, PNG, WebP, AVIF, BMP, GIF, TIFF, PPM or JPEG 2000.",
    "content": {"image/*": _BYTES, "application/octet-stream": _BYTES},
}
_LOGIN = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Token"}}},
}
_JSON = "application/json"

OPERATIONS = (
    Endpoint(
        name="classify",
        method="POST",
        path="/classify",
        summary="Returns what the model answers to an image: likely names, values, or a feature vector.",
        returns=(_JSON, "Answer"),
        errors=(400, 408, 413, 415, 422, 503),
        parameters=(_TOP_K, _THRESHOLD),
        body=_IMAGE,
        example="curl --data-binary @cat.jpg '{url}classify?top_k=3'{bearer}",
    ),
    Endpoint(
        name="info",
        method="GET",
        path="/info",
        summary="Describes the model and the limits of the server.",
        returns=(_JSON, "Info"),
        example="curl '{url}info'{bearer}",
    ),
    Endpoint(
        name="frame",
        method="GET",
        path="/camera/frame.jpg",
        summary="Returns the camera's next frame, or a recent one; the header X-Frame is its number.",
        returns=("image/jpeg", None),
        errors=(400, 404, 503),
        parameters=(_FRAME_NUMBER,),
        example="curl '{url}camera/frame.jpg' -o frame.jpg{bearer}",
    ),
    Endpoint(
        name="events",
        method="GET",
        path="/camera/events",
        summary="Streams server-sent events: frame (an Answer with the frame's number), end after the last frame, "
        "failed (with a message).",
        returns=("text/event-stream", None),
        errors=(404, 503),
        example="curl -N '{url}camera/events'{bearer}",
    ),
    Endpoint(
        name="health",
        method="GET",
        path="/health",
        summary="Tells that the server is running.",
        returns=(_JSON, "Health"),
        needs_token=False,
        example="curl '{url}health'",
    ),
    Endpoint(
        name="login",
        method="POST",
        path="/login",
        summary="Logs a browser in: sets a cookie in exchange for the token.",
        status=204,
        errors=(400, 401, 408, 413, 503),
        needs_token=False,
        body=_LOGIN,
    ),
    Endpoint(
        name="openapi",
        method="GET",
        path="/openapi.json",
        summary="Describes this interface for programs (OpenAPI).",
        returns=(_JSON, None),
        needs_token=False,
    ),
    Endpoint(
        name="docs",
        method="GET",
        path="/docs",
        summary="Describes this interface for people.",
        returns=("text/html", None),
        needs_token=False,
    ),
)

# Files of the page: path -> file in page/ and its media type. They are not part of the interface.
FILES = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/app.js": ("app.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/favicon.ico": ("icon.svg", "image/svg+xml"),  # browsers request it beside /openapi.json
}
OPEN_PATHS = (*FILES, *(operation.path for operation in OPERATIONS if not operation.needs_token))


def errors_of(operation: Endpoint) -> list[int]:
    """Return every HTTP error that an operation can give, sorted."""
    common = {400, 403, 421} | ({401} if operation.needs_token else set())
    return sorted(common | set(operation.errors))


def openapi() -> Json:
    """Return the OpenAPI 3.1 description."""
    paths: Json = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mbn-deploy",
            "version": __version__,
            "description": "Answers to images with one MobileNet.",
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
                    "description": "Required if the server has a token; one that other machines can reach always has.",
                }
            },
        },
    }


def _operation(operation: Endpoint) -> Json:
    described: Json = {"operationId": operation.name, "summary": operation.summary, "responses": {}}
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.body is not None:
        described["requestBody"] = operation.body
    if operation.needs_token:
        described["security"] = [{"token": []}, {}]
    described["responses"][str(operation.status)] = _success(operation)
    for status in errors_of(operation):
        schema = {"$ref": "#/components/schemas/Error"}
        described["responses"][str(status)] = {
            "description": ERRORS[status],
            "content": {"application/json": {"schema": schema}},
        }
    return described


def _success(operation: Endpoint) -> Json:
    if operation.returns is None:
        return {"description": "Success."}
    kind, schema = operation.returns
    content: Json = {} if schema is None else {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"description": operation.summary, "content": {kind: content}}
