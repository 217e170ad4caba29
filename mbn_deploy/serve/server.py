"""Start the server: the socket, uvicorn, and the signals that end it."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread, Timer
from typing import Any

import uvicorn

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime.classifier import Classifier
from mbn_deploy.runtime.system.child import ChildProcess
from mbn_deploy.serve.access import Access, check_token
from mbn_deploy.serve.api import OPEN_PATHS
from mbn_deploy.serve.app import Services, make_app
from mbn_deploy.serve.camera import Camera, Opener
from mbn_deploy.serve.engine import Engine
from mbn_deploy.serve.limits import Limits
from mbn_deploy.serve.log import logging_to_stderr
from mbn_deploy.serve.protocol import HEAD_BYTES, Protocol

IDLE_SECONDS = 15  # between requests of one connection
SHUTDOWN_SECONDS = 5  # to finish responses when the server is told to end
END_SECONDS = SHUTDOWN_SECONDS + 1.0  # after which the process ends whatever runs
INTERRUPTED = 128 + signal.SIGINT  # exit code, as shells report it


@dataclass(frozen=True)
class ServerOptions:
    """The settings of a server; see the command `serve`.

    `names` are further names of the host. `camera` opens the source each time that the first viewer comes, and
    `frames_per_second` limits its rate.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    names: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    camera: Opener | None = None
    frames_per_second: float = 10.0


@dataclass(frozen=True)
class ServerAddress:
    """The address of a server, and its token: generated, given, or None."""

    url: str
    host: str
    port: int
    token: str | None
    generated: bool

    @property
    def login_url(self) -> str:
        """The address with the token in its fragment, which browsers do not send and the page removes."""
        return self.url if self.token is None else f"{self.url}#token={self.token}"


def serve(
    classifier: Classifier, options: ServerOptions, ready: Callable[[ServerAddress], None]
) -> signal.Signals | None:
    """Serve until SIGINT or SIGTERM, and return which; to be called in the main thread of a program that does no more.

    `ready` is called, in a thread of its own, as soon as requests are answered. A thread that decodes or infers cannot
    be interrupted, and neither can a write to a full pipe: so `END_SECONDS` after the signal the process ends with its
    children in any case, with exit code 0 after SIGTERM and 130 after SIGINT. On an address that other machines can
    reach, a token is always required: one is generated if none is given.

    Raises:
        UsageError: the token is too short, or the host does not exist.
        InputError: the address is in use or not allowed.
    """
    token = None if options.token is None else check_token(options.token)
    with logging_to_stderr(), listen(options.host, options.port) as listening:
        address, port = listening.getsockname()[:2]
        generated = token is None and not ipaddress.ip_address(address).is_loopback
        token = secrets.token_urlsafe(24) if generated else token
        url = f"http://{_url_host(options.host, address)}:{port}/"
        access = Access.for_server(token, port, [*options.names, options.host], OPEN_PATHS)
        engine = Engine(classifier, options.limits)
        camera = _camera(options, engine)
        app = make_app(Services(engine, options.limits, access, camera))
        at = ServerAddress(url=url, host=address, port=port, token=token, generated=generated)
        announcement = Thread(target=_announce, args=(ready, at), name="announcement", daemon=True)
        server = _Server(_config(app, options.limits), camera, announcement.start)
        asyncio.run(server.serve(sockets=[listening]))
        if server.ended_by is not None and (engine.running or announcement.is_alive()):
            end_process(server.ended_by)
        return server.ended_by


def _announce(ready: Callable[[ServerAddress], None], at: ServerAddress) -> None:
    try:
        ready(at)
    except OSError:  # nobody reads stdout: what is still buffered goes nowhere
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end_process(number: signal.Signals) -> None:
    """End this process and its children at once, with the exit code that belongs to the signal."""
    ChildProcess.kill_all()
    os._exit(0 if number == signal.SIGTERM else INTERRUPTED)


def _camera(options: ServerOptions, engine: Engine) -> Camera | None:
    if options.camera is None:
        return None
    return Camera(
        options.camera,
        engine,
        viewers=options.limits.viewers,
        per_second=options.frames_per_second,
    )


def _config(app: Any, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Protocol,
        log_config=None,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; raises `UsageError` for an unknown host, `InputError` if the address cannot be used."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise UsageError(
            f"--host {host!r}: unknown address; 127.0.0.1 serves this machine only, 0.0.0.0 all networks"
        ) from None
    family, _, _, _, address = addresses[0]
    # asyncio turns Nagle's algorithm off only if the socket's protocol is given, which socket.create_server omits. With
    # Nagle a response's body waits 40 ms for the client's delayed acknowledgement of the head.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        where = f"{host}, port {port}"
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"{where}: in use; stop the other program, or choose another --port (0 takes any)"
            ) from None
        raise InputError(f"{where}: the server cannot listen there: {error.strerror}") from None
    return listening


def _url_host(host: str, address: str) -> str:
    """Return the host of a URL that others can use; for "all addresses", this machine's address in its network."""
    if ipaddress.ip_address(address).is_unspecified:
        return _outward_address() or socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _outward_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address (RFC 5737); UDP's connect sends nothing
        except OSError:
            return None
        name: str = probe.getsockname()[0]
        return name


class _Server(uvicorn.Server):
    """uvicorn's server; it reports when it is ready, and keeps the signal that ended it instead of raising it again."""

    def __init__(self, config: uvicorn.Config, camera: Camera | None, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._camera, self._ready = camera, ready
        self.ended_by: signal.Signals | None = None
        self._deadline: Timer | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._camera is not None:  # nothing else ends the responses to its viewers
            await self._camera.close()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()
        caught = (signal.SIGINT, signal.SIGTERM)
        for number in caught:
            loop.add_signal_handler(number, self._end, number)
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)

    def _end(self, number: signal.Signals) -> None:
        self.force_exit = self.should_exit  # a second signal ends it at once
        self.should_exit = True
        self.ended_by = self.ended_by or number
        if self._deadline is None:
            self._deadline = Timer(END_SECONDS, end_process, (self.ended_by,))
            self._deadline.daemon = True
            self._deadline.start()
