"""The HTTP protocol of a connection: uvicorn's, with bounds on what clients keep waiting and no answer to nonsense."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0  # to receive a request's line and headers
HEAD_BYTES = 16_384  # of a request's line and headers
# Connections of one client that are open without a whole head; above, the oldest of them is closed.
HEADS_OF_A_CLIENT = 32
SPARE_CONNECTIONS = 64  # above the limit of connections, to be told that the server is busy


class Protocol(H11Protocol):
    """uvicorn's protocol that disconnects clients that send the head of a request too slowly, or nothing at all.

    One address may have `HEADS_OF_A_CLIENT` heads underway, and half of all connections, so that a single client cannot
    shut out the others.
    """

    _late: asyncio.TimerHandle | None = None
    _began = 0.0
    source = ""  # the client's address

    def connection_made(self, transport: Any) -> None:
        """Take part in the bounds of the client's address."""
        super().connection_made(transport)
        self._began = self.loop.time()
        self.source = client_network(self.client[0] if self.client else "")
        self._make_room()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Handle bytes; a client that sends more after nonsense is disconnected."""
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # an answer that is no longer possible
            self.transport.abort()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, unless the answer to its head is already underway."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
            if self.cycle is not None:  # a handler that is about to answer the head must not do so any more
                self.cycle.disconnected = True
                self.cycle.message_event.set()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget()
        super().connection_lost(exc)

    @property
    def awaits_head(self) -> bool:
        """Whether the connection is open, and no whole head of a request has come."""
        return self.conn.their_state is h11.IDLE and not self.transport.is_closing()

    def _make_room(self) -> None:
        """Close the client's oldest connection without a head if there are too many; else this one."""
        theirs = [other for other in self.connections if isinstance(other, Protocol) and other.is_open]
        most = self.limit_concurrency or len(theirs)
        own = [other for other in theirs if other.source == self.source]
        waiting = sorted((other for other in own if other.awaits_head), key=lambda other: other._began)  # noqa: SLF001
        if len(waiting) > HEADS_OF_A_CLIENT or (len(own) > most // 2 and len(waiting) > 1):
            waiting[0].transport.close()
        elif len(own) > most // 2 or len(theirs) > most + SPARE_CONNECTIONS:
            self.transport.close()

    @property
    def is_open(self) -> bool:
        """Whether the connection is open."""
        return not self.transport.is_closing()

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def client_network(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 network of an IPv6 host, which has all of it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
