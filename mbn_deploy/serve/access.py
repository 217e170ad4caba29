"""Access control: the Host header, the requesting page and the token are checked, and security headers are sent.

- A Host header that is not one of this machine's names is refused. Otherwise a foreign page, whose owner later points
  its name at this machine (DNS rebinding), would have the same origin as the server. IP addresses cannot be rebound.
- Requests from other sites' pages are refused by `Origin` and `Sec-Fetch-Site`, so that no foreign page can post.
- With a token, every operation that reveals or does something requires it: as `Authorization: Bearer`, or as the cookie
  that `POST /login` sets, which scripts cannot read and requests from other sites do not carry.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mbn_deploy.errors import UsageError
from mbn_deploy.serve.limits import Refusal, RefusalResponse

SHORTEST_TOKEN = 16
_HOST = re.compile(r"(?P<name>[^\s\[\]:/?#@\\]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?", re.ASCII)

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def check_token(token: str) -> str:
    """Return the token; raises `UsageError` if it is too short or cannot be sent in a header."""
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"the token must have at least {SHORTEST_TOKEN} ASCII letters, digits or punctuation marks, and no spaces"
        )
    return token


def own_names() -> frozenset[str]:
    """Return the names of this machine."""
    name = socket.gethostname().lower()
    return frozenset({"localhost", name, f"{name.split('.')[0]}.local"})


@dataclass(frozen=True)
class Access:
    """The access rules of one server.

    `open_paths` need no token; `port` keeps the cookies of several servers on one machine apart.
    """

    token: str | None
    port: int
    names: frozenset[str]
    open_paths: frozenset[str]
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @classmethod
    def for_server(cls, token: str | None, port: int, extra_names: Iterable[str], open_paths: Iterable[str]) -> Access:
        """Create the rules of a server with this machine's names and `extra_names`."""
        names = own_names() | {name.lower() for name in extra_names}
        return cls(token, port, names, frozenset(open_paths))

    @property
    def cookie(self) -> str:
        """Name of the login cookie; it includes the port, since cookies are shared by all ports of a host."""
        return f"mbn_deploy_{self.port}"

    def is_token(self, given: str) -> bool:
        """Return whether `given` is the token, compared in constant time."""
        return self.token is not None and _equal(given, self.token)

    def check(self, path: str, headers: Headers, cookies: dict[str, str]) -> None:
        """Raise `Refusal` 421, 403 or 401 for a request that must not be answered."""
        host = headers.get("host", "")
        if not self._is_own(host):
            raise Refusal(
                421, "wrong_host", f"{host[:100]!r} is not a name of this server; see --allow-host", unread=True
            )
        if not _same_origin(headers, host, is_open=path in self.open_paths):
            raise Refusal(403, "cross_origin", "requests from pages of other sites are refused", unread=True)
        if self.token is None or path in self.open_paths:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return
        if not _equal(cookies.get(self.cookie, ""), self.session):
            raise Refusal(
                401, "token_needed", "a token is needed: send the header Authorization: Bearer TOKEN", unread=True
            )

    def _is_own(self, host: str) -> bool:
        parts = _HOST.fullmatch(host)
        if parts is None or int(parts["port"] or 0) > 65535:
            return False
        name = parts["name"].lower().rstrip(".")
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return name.startswith("[") == (address.version == 6)


def check_framing(scope: Scope, headers: Headers) -> None:
    """Raise `Refusal` 400 where two readers could disagree about where a request ends (RFC 9112, 6.1 and 6.3).

    A proxy that goes by `Content-Length` and a server that goes by `Transfer-Encoding` would take a part of one
    client's body for the next client's request.
    """
    if "transfer-encoding" not in headers:
        return
    if "content-length" in headers or scope["http_version"] < "1.1":
        raise Refusal(
            400, "ambiguous_length", "a request has Content-Length or, from HTTP/1.1 on, Transfer-Encoding", unread=True
        )


def _equal(given: str, expected: str) -> bool:
    # JSON may hold half a surrogate pair ("\ud800"), which UTF-8 has no bytes for.
    return hmac.compare_digest(given.encode(errors="surrogatepass"), expected.encode())


def _same_origin(headers: Headers, host: str, *, is_open: bool) -> bool:
    """Return whether the request does not come from another site's page. Links to the open pages are allowed."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return False
    return is_open or headers.get("sec-fetch-site") not in ("cross-site", "same-site")


class AccessMiddleware:
    """ASGI middleware: `Access.check` before the application, `SECURITY_HEADERS` on every response."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        try:
            check_framing(scope, headers)
            self._access.check(scope["path"], headers, _cookies(headers))
        except Refusal as refusal:
            await RefusalResponse(refusal)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def _cookies(headers: Headers) -> dict[str, str]:
    pairs = (part.partition("=") for part in headers.get("cookie", "").split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}
