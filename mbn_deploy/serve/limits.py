"""What a client may cost: bytes, pixels, seconds, places in the queue. And the one way to say no."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from mbn_deploy.runtime.images import REDUCIBLE


@dataclass(frozen=True)
class Limits:
    """Bounds of one server.

    Attributes:
        upload_bytes: of one picture's file.
        pixels: width × height of a JPEG, checked from its header before anything is decoded. Other pictures
            may have a quarter: they cannot be decoded smaller, and with transparency take 24 bytes a pixel on
            the way (Pillow's RGB has four, and so have the picture, the white under it, their sum).
        upload_seconds: from the first to the last byte of an upload.
        buffered_bytes: of all uploads together that are being read or wait for their turn.
        waiting: pictures that are there, beyond those in work.
        viewers: of the camera, at a time.
        connections: open at a time; beyond them the answer is 503.
    """

    upload_bytes: int = 10_000_000
    pixels: int = 50_000_000
    upload_seconds: float = 30.0
    buffered_bytes: int = 64_000_000
    waiting: int = 16
    viewers: int = 8
    connections: int = 256

    def pixels_of(self, kind: str) -> int:
        """The most for a picture of this format."""
        return self.pixels if kind in REDUCIBLE else self.pixels // 4


class Refusal(Exception):  # noqa: N818 - it is an answer
    """Ends a request with a status and a JSON error; `retry` is after how many seconds to try again.

    `unread` says that the request's body was not read to its end, so the connection cannot go on.
    """

    def __init__(self, status: int, code: str, message: str, *, retry: int | None = None, unread: bool = False) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry, self.unread = status, code, message, retry, unread

    def headers(self) -> dict[str, str]:
        """Those that the status asks for."""
        found = {} if self.retry is None else {"Retry-After": str(self.retry)}
        if self.status == 401:
            found["WWW-Authenticate"] = 'Bearer realm="mbn-deploy"'
        return found


def error_body(code: str, message: str) -> dict[str, dict[str, str]]:
    """The JSON of every error."""
    return {"error": {"code": code, "message": message}}


# A client that is cut off while it sends gets a reset, and may never see the answer (RFC 9112, 9.6). So what
# it still sends is thrown away for a while; one that has read the answer stops by itself.
LINGER_SECONDS = 2.0
LINGER_BYTES = 4_000_000


class RefusalResponse(JSONResponse):
    """The answer that a `Refusal` is; closes the connection where the request was not read."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(error_body(refusal.code, refusal.message), refusal.status, refusal.headers())
        self._unread = refusal.unread
        if self._unread:
            self.headers["Connection"] = "close"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; then read on for a moment, if the client may be in the middle of its upload."""
        if not self._unread:
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await _throw_away(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _throw_away(receive: Receive) -> None:
    loop = asyncio.get_running_loop()
    deadline, left = loop.time() + LINGER_SECONDS, LINGER_BYTES
    while left > 0:
        try:
            message = await asyncio.wait_for(receive(), deadline - loop.time())
        except asyncio.TimeoutError:
            return
        left -= len(message.get("body", b""))
        if not message.get("more_body", False):
            return


class Uploads:
    """Reads the bodies of requests, and holds no more of them than `Limits` allows."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytearray]:
        """The request's body, counted as held until the block ends.

        Raises `Refusal`: 413 too large (at once if the client says so, else when it is), 408 too slow, 503 too
        many others, 400 empty or broken off.
        """
        limit = self._limits.upload_bytes
        if int(request.headers.get("content-length", "0")) > limit:
            raise self._too_large()
        data = bytearray()
        try:
            async for chunk in self._chunks(request.receive):
                if len(data) + len(chunk) > limit:
                    raise self._too_large()
                if self._held + len(chunk) > self._limits.buffered_bytes:
                    raise Refusal(503, "busy", "too many pictures are being uploaded; try again", retry=1, unread=True)
                data += chunk
                self._held += len(chunk)
            if not data:
                raise Refusal(400, "empty", "the request has no body; send the bytes of a picture")
            yield data
        finally:
            self._held -= len(data)

    async def _chunks(self, receive: Receive) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.upload_seconds
        more = True
        while more:
            try:
                message = await asyncio.wait_for(receive(), deadline - loop.time())
            except asyncio.TimeoutError:
                seconds = f"{self._limits.upload_seconds:g}"
                raise Refusal(
                    408, "too_slow", f"the upload was not complete after {seconds} seconds", unread=True
                ) from None
            if message["type"] == "http.disconnect":
                raise Refusal(400, "broken_off", "the client went away", unread=True)
            more = message.get("more_body", False)
            yield message.get("body", b"")

    def _too_large(self) -> Refusal:
        limit = self._limits.upload_bytes
        return Refusal(413, "too_large", f"a picture may have {limit} bytes at most", unread=True)
