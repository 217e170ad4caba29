"""Limits on what a client may use (bytes, pixels, seconds, places in the queue), and the error responses."""

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
        upload_bytes: size of one image file.
        pixels: width × height of a JPEG, checked from its header before anything is decoded. Other formats may have
            a quarter: they cannot be decoded smaller, and with transparency they take 24 bytes for each pixel
            meanwhile (Pillow's RGB has four bytes, and so have the image, the white below it and their sum).
        upload_seconds: time from the first to the last byte of an upload.
        buffered_bytes: size of all uploads together that are being read or wait for their turn.
        waiting: uploaded images that wait, beyond those that are being classified.
        viewers: viewers of the camera at a time.
        connections: open connections; further ones get the response 503.
    """

    upload_bytes: int = 10_000_000
    pixels: int = 50_000_000
    upload_seconds: float = 30.0
    buffered_bytes: int = 64_000_000
    waiting: int = 16
    viewers: int = 8
    connections: int = 256

    def pixels_of(self, kind: str) -> int:
        """Return the largest number of pixels of an image in this format."""
        return self.pixels if kind in REDUCIBLE else self.pixels // 4


class Refusal(Exception):  # noqa: N818 - it is a response
    """Ends a request with an HTTP status and a JSON error.

    `retry` is the number of seconds after which to try again. `unread` says that the request's body was not read to
    its end, so that the connection cannot be used for another request.
    """

    def __init__(self, status: int, code: str, message: str, *, retry: int | None = None, unread: bool = False) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry, self.unread = status, code, message, retry, unread

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to the status."""
        headers = {} if self.retry is None else {"Retry-After": str(self.retry)}
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="mbn-deploy"'
        return headers


def error_body(code: str, message: str) -> dict[str, dict[str, str]]:
    """Return the JSON body of an error."""
    return {"error": {"code": code, "message": message}}


# A client whose connection is closed while it sends gets a reset and may never see the response (RFC 9112, 9.6). So
# what it still sends is discarded for a while; a client that has read the response stops sending.
LINGER_SECONDS = 2.0
LINGER_BYTES = 4_000_000


class RefusalResponse(JSONResponse):
    """The response for a `Refusal`; it closes the connection if the request was not read."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(error_body(refusal.code, refusal.message), refusal.status, refusal.headers())
        self._unread = refusal.unread
        if self._unread:
            self.headers["Connection"] = "close"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; then read on for a moment if the client may still be uploading."""
        if not self._unread:
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await _discard(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
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
    """Reads request bodies, of which it buffers at most as much as `Limits` allows."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffered = 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytearray]:
        """Read the request's body, which counts as buffered until the block ends.

        Raises `Refusal`: 413 too large (at once if the client announces it), 408 too slow, 503 too many uploads at
        a time, 400 empty or broken off.
        """
        limit = self._limits.upload_bytes
        if int(request.headers.get("content-length", "0")) > limit:
            raise self._too_large()
        data = bytearray()
        try:
            async for chunk in self._chunks(request.receive):
                if len(data) + len(chunk) > limit:
                    raise self._too_large()
                if self._buffered + len(chunk) > self._limits.buffered_bytes:
                    raise Refusal(503, "busy", "too many images are being uploaded; try again", retry=1, unread=True)
                data += chunk
                self._buffered += len(chunk)
            if not data:
                raise Refusal(400, "empty", "the request has no body; send an image file")
            yield data
        finally:
            self._buffered -= len(data)

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
                raise Refusal(400, "broken_off", "the client closed the connection", unread=True)
            more = message.get("more_body", False)
            yield message.get("body", b"")

    def _too_large(self) -> Refusal:
        limit = self._limits.upload_bytes
        return Refusal(413, "too_large", f"the body may have at most {limit} bytes", unread=True)
