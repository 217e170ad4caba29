"""The application: a handler for every operation of the table in `api`."""

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
from mbn_deploy.serve.access import Access, Guard
from mbn_deploy.serve.camera import Camera, Over, Shot, Viewer
from mbn_deploy.serve.docs import docs_html
from mbn_deploy.serve.engine import Engine
from mbn_deploy.serve.limits import Limits, Refusal, RefusalResponse, Uploads, error_body
from mbn_deploy.version import __version__

FRAME_SECONDS = 15.0  # for one frame, its opening included: a viewer's place is taken meanwhile
QUIET_SECONDS = 10.0  # between frames, after which a comment shows that the stream still lives
SEND_SECONDS = 20.0  # a viewer that takes nothing for so long is let go
LOGIN_BYTES = 1000
CLOSE = {"Connection": "close"}
CODES = {404: "not_found", 405: "wrong_method"}


@dataclass(frozen=True)
class Site:
    """What the handlers work with."""

    engine: Engine
    limits: Limits
    access: Access
    camera: Camera | None


def make_app(site: Site) -> ASGIApp:
    """The ASGI application. It closes the camera and the engine's threads when it is shut down."""
    handlers = Handlers(site)
    routes = [Route(item.path, getattr(handlers, item.name), methods=[item.method]) for item in api.OPERATIONS]
    routes += [Route(path, handlers.file) for path in api.FILES]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        if site.camera is not None:
            await site.camera.close()
        site.engine.close()

    errors = {Refusal: _refused, HTTPException: _http_error, Exception: _bug}
    return Guard(Starlette(routes=routes, exception_handlers=errors, lifespan=lifespan), site.access)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - for the type checker: it is registered for these only
    return RefusalResponse(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the same
    code = CODES.get(error.status_code, "error")
    message = f"{request.method} {request.url.path[:100]}: {error.detail}; what there is: /docs"
    answer = RefusalResponse(Refusal(error.status_code, code, message, unread=True))
    answer.headers.update(error.headers or {})
    return answer


async def _bug(_: Request, __: Exception) -> Response:
    return JSONResponse(error_body("bug", "a mistake in this program; the server's stderr says more"), 500, CLOSE)


class Handlers:
    """A method for each operation, of its name."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._uploads = Uploads(site.limits)
        self._logins = Uploads(replace(site.limits, upload_bytes=LOGIN_BYTES))

    async def classify(self, request: Request) -> Response:
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            raise Refusal(
                415, "form", "send the picture's bytes as the body, not a form: curl --data-binary @FILE", unread=True
            )
        top_k = _whole(request, "top_k", 1, 1000) if "top_k" in request.query_params else 5
        engine = self._site.engine
        engine.check_room()
        async with self._uploads.body(request) as data:
            answer = await engine.classify(data, top_k)
        return JSONResponse(answer.to_json())

    async def info(self, _: Request) -> Response:
        limits = self._site.limits
        shown = {name: getattr(limits, name) for name in ("upload_bytes", "pixels", "upload_seconds")}
        camera = self._site.camera is not None
        facts = self._site.engine.facts()
        return JSONResponse({**facts, "camera": camera, "limits": shown, "version": __version__})

    async def frame(self, request: Request) -> Response:
        camera, shot = self._camera(), None
        if "number" in request.query_params:
            shot = camera.shot(_whole(request, "number", 1, 10**9))
            if shot is None:
                raise Refusal(404, "gone", "this frame is not kept any more, or there was none of this number yet")
        else:
            async with camera.watch() as viewer:
                try:
                    found = await asyncio.wait_for(viewer.next(), FRAME_SECONDS)
                except asyncio.TimeoutError:
                    raise Refusal(503, "camera", "the camera gives no frame now; try again", retry=5) from None
            if isinstance(found, Over):
                raise Refusal(503, "camera", found.message or "the camera has no frame", retry=5)
            shot = found
        jpeg = await self._site.engine.in_thread(shot.jpeg)
        return Response(jpeg, media_type="image/jpeg", headers={"X-Frame": str(shot.number)})

    async def events(self, _: Request) -> Response:
        return CameraEvents(self._camera())

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def login(self, request: Request) -> Response:
        """Sets the cookie that stands for the token. It lives as long as the browser's session and this server."""
        async with self._logins.body(request) as body:
            given = _token_in(body)
        access = self._site.access
        if not access.is_token(given):
            raise Refusal(401, "wrong_token", "that is not this server's token")
        answer = Response(status_code=204)
        answer.set_cookie(access.cookie, access.session, httponly=True, samesite="strict", path="/")
        return answer

    async def file(self, request: Request) -> Response:
        name, kind = api.FILES[request.url.path]
        return Response((resources.files("mbn_deploy.serve") / "page" / name).read_bytes(), media_type=kind)

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(api.openapi())

    async def docs(self, request: Request) -> Response:
        with_token = self._site.access.token is not None
        return Response(docs_html(str(request.base_url), with_token=with_token), media_type="text/html")

    def _camera(self) -> Camera:
        if self._site.camera is None:
            raise Refusal(404, "no_camera", "this server has no camera; start it with --camera")
        return self._site.camera


def _whole(request: Request, name: str, least: int, most: int) -> int:
    """A parameter of the query that is a whole number; raises `Refusal` 400."""
    text = request.query_params[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
        message = f"{name} must be a whole number from {least} to {most}"
        raise Refusal(400, "wrong_parameter", message, unread=True)
    return int(text)


def _token_in(body: bytearray) -> str:
    """The token of a login; raises `Refusal` 400."""
    try:
        given = json.loads(body.decode())["token"]
    except (ValueError, TypeError, KeyError, RecursionError):
        given = None
    if not isinstance(given, str):
        raise Refusal(400, "no_token", 'the body must be JSON: {"token": "…"}')
    return given


def _event(found: Shot | Over) -> str:
    if isinstance(found, Over):
        return f"event: {found.kind}\ndata: {json.dumps(asdict(found))}\n\n"
    return f"event: frame\ndata: {json.dumps({'frame': found.number, **found.answer.to_json()})}\n\n"


class CameraEvents(Response):
    """Server-sent events (HTML standard, 9.2) of a camera, until it ends or the client is gone or takes none."""

    def __init__(self, camera: Camera) -> None:
        super().__init__(media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._camera = camera

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Take a viewer's place (`Refusal` where there is none), and send."""
        async with self._camera.watch() as viewer:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            tasks = {asyncio.ensure_future(_send_events(viewer, send)), asyncio.ensure_future(_gone(receive))}
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
    found: Shot | Over | None = None
    while not isinstance(found, Over):
        try:
            found = await asyncio.wait_for(viewer.next(), QUIET_SECONDS)
            text = _event(found)
        except asyncio.TimeoutError:
            text = ": nothing new\n\n"
        try:
            body = {"type": "http.response.body", "body": text.encode(), "more_body": True}
            await asyncio.wait_for(send(body), SEND_SECONDS)
        except asyncio.TimeoutError:
            return


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
