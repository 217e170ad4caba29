"""The ASGI application: one handler for every operation of the table in `api`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from importlib import resources

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mbn_deploy.serve import api
from mbn_deploy.serve.access import Access, AccessMiddleware
from mbn_deploy.serve.camera import Camera, ClassifiedFrame, StreamEnd, Viewer
from mbn_deploy.serve.docs import docs_html
from mbn_deploy.serve.engine import Engine
from mbn_deploy.serve.limits import Limits, Refusal, RefusalResponse, Uploads, error_body
from mbn_deploy.version import __version__

FRAME_SECONDS = 15.0  # to wait for one frame, including the opening of the camera
QUIET_SECONDS = 10.0  # without a frame, after which a comment shows that the stream is alive
SEND_SECONDS = 20.0  # after which a viewer that reads nothing is disconnected
LOGIN_BYTES = 1000
CLOSE = {"Connection": "close"}
CODES = {404: "not_found", 405: "wrong_method"}


@dataclass(frozen=True)
class Services:
    """The objects that the handlers use."""

    engine: Engine
    limits: Limits
    access: Access
    camera: Camera | None


def make_app(services: Services) -> ASGIApp:
    """Create the ASGI application, which closes the camera and the engine's threads at shutdown."""
    handlers = Handlers(services)
    routes = [Route(item.path, getattr(handlers, item.name), methods=[item.method]) for item in api.OPERATIONS]
    routes += [Route(path, handlers.file) for path in api.FILES]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        if services.camera is not None:
            await services.camera.close()
        services.engine.close()

    errors = {Refusal: _refused, HTTPException: _http_error, Exception: _bug}
    return AccessMiddleware(Starlette(routes=routes, exception_handlers=errors, lifespan=lifespan), services.access)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - for the type checker: it is registered for this class only
    return RefusalResponse(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the same
    code = CODES.get(error.status_code, "error")
    message = f"{request.method} {request.scope['path'][:100]}: {error.detail}; see /docs for the interface"
    answer = RefusalResponse(Refusal(error.status_code, code, message, unread=True))
    answer.headers.update(error.headers or {})
    return answer


async def _bug(_: Request, __: Exception) -> Response:
    return JSONResponse(error_body("bug", "this is a bug in mbn-deploy; see the server's stderr"), 500, CLOSE)


class Handlers:
    """The handlers: each operation is handled by the method of its name."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._uploads = Uploads(services.limits)
        self._logins = Uploads(replace(services.limits, upload_bytes=LOGIN_BYTES))

    async def classify(self, request: Request) -> Response:
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            raise Refusal(
                415, "form", "send the image file as the body, not as a form: curl --data-binary @FILE", unread=True
            )
        top_k = _integer(request, "top_k", 1, 1000) if "top_k" in request.query_params else None
        threshold = _share(request, "threshold") if "threshold" in request.query_params else None
        engine = self._services.engine
        engine.check_room()
        async with self._uploads.body(request) as data:
            result = await engine.classify(data, top_k, threshold)
        return JSONResponse(result.to_json())

    async def info(self, _: Request) -> Response:
        limits = self._services.limits
        public = {name: getattr(limits, name) for name in ("upload_bytes", "pixels", "upload_seconds")}
        camera = self._services.camera is not None
        model = self._services.engine.model_info()
        return JSONResponse({**model, "camera": camera, "limits": public, "version": __version__})

    async def frame(self, request: Request) -> Response:
        camera = self._camera()
        if "number" in request.query_params:
            recent = camera.recent_frame(_integer(request, "number", 1, 10**9))
            if recent is None:
                raise Refusal(404, "gone", "this frame is no longer kept, or does not exist yet")
            frame = recent
        else:
            frame = await _next_frame(camera)
        jpeg = await self._services.engine.in_thread(frame.jpeg)
        return Response(jpeg, media_type="image/jpeg", headers={"X-Frame": str(frame.number)})

    async def events(self, _: Request) -> Response:
        return CameraEvents(self._camera())

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def login(self, request: Request) -> Response:
        """Set the cookie that stands for the token. It lasts as long as the browser's session and this server."""
        async with self._logins.body(request) as body:
            given = _token_in(body)
        access = self._services.access
        if not access.is_token(given):
            raise Refusal(401, "wrong_token", "this is not the server's token")
        answer = Response(status_code=204)
        answer.set_cookie(access.cookie, access.session, httponly=True, samesite="strict", path="/")
        return answer

    async def file(self, request: Request) -> Response:
        name, kind = api.FILES[request.scope["path"]]
        return Response((resources.files("mbn_deploy.serve") / "page" / name).read_bytes(), media_type=kind)

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(api.openapi())

    async def docs(self, request: Request) -> Response:
        with_token = self._services.access.token is not None
        return Response(docs_html(str(request.base_url), with_token=with_token), media_type="text/html")

    def _camera(self) -> Camera:
        if self._services.camera is None:
            raise Refusal(404, "no_camera", "this server has no camera; start it with the option --camera")
        return self._services.camera


async def _next_frame(camera: Camera) -> ClassifiedFrame:
    """Wait for the camera's next frame; raises `Refusal` 503 if none comes."""
    async with camera.watch() as viewer:
        try:
            latest = await asyncio.wait_for(viewer.next(), FRAME_SECONDS)
        except asyncio.TimeoutError:
            raise Refusal(503, "camera", "the camera gives no frame now; try again", retry=5) from None
    if isinstance(latest, StreamEnd):
        raise Refusal(503, "camera", latest.message or "the camera has no more frames", retry=5)
    return latest


def _integer(request: Request, name: str, least: int, most: int) -> int:
    """Return a parameter of the query as an integer; raises `Refusal` 400."""
    text = request.query_params[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
        message = f"{name} must be a whole number from {least} to {most}"
        raise Refusal(400, "wrong_parameter", message, unread=True)
    return int(text)


def _share(request: Request, name: str) -> float:
    """Return a parameter of the query as a number from 0 to 1; raises `Refusal` 400."""
    try:
        value = float(request.query_params[name])
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise Refusal(400, "wrong_parameter", f"{name} must be a number from 0 to 1", unread=True)
    return value


def _token_in(body: bytearray) -> str:
    """Return the token of a login; raises `Refusal` 400."""
    try:
        given = json.loads(body.decode())["token"]
    except (ValueError, TypeError, KeyError, RecursionError):
        given = None
    if not isinstance(given, str):
        raise Refusal(400, "no_token", 'the body must be JSON: {"token": "…"}')
    return given


def _event(latest: ClassifiedFrame | StreamEnd) -> str:
    if isinstance(latest, StreamEnd):
        return f"event: {latest.kind}\ndata: {json.dumps(asdict(latest))}\n\n"
    return f"event: frame\ndata: {json.dumps({'frame': latest.number, **latest.result.to_json()})}\n\n"


class CameraEvents(Response):
    """Server-sent events (HTML standard, section 9.2) of a camera, until it ends or the client stops reading."""

    def __init__(self, camera: Camera) -> None:
        super().__init__(media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._camera = camera

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Join as a viewer (`Refusal` if there are too many) and send events."""
        async with self._camera.watch() as viewer:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            tasks = {asyncio.ensure_future(_send_events(viewer, send)), asyncio.ensure_future(_disconnected(receive))}
            try:
                done, _rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                task.result()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_events(viewer: Viewer, send: Send) -> None:
    latest: ClassifiedFrame | StreamEnd | None = None
    while not isinstance(latest, StreamEnd):
        try:
            latest = await asyncio.wait_for(viewer.next(), QUIET_SECONDS)
            text = _event(latest)
        except asyncio.TimeoutError:
            text = ": nothing new\n\n"
        try:
            body = {"type": "http.response.body", "body": text.encode(), "more_body": True}
            await asyncio.wait_for(send(body), SEND_SECONDS)
        except asyncio.TimeoutError:
            return


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
