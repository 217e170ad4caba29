"""`mbn-deploy serve` as a process, and HTTP as clients speak it."""

import http.client
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

START = "from mbn_deploy.cli.main import main; main()"


@dataclass
class Answer:
    """Return status, headers (names in lower case) and body."""

    status: int
    headers: dict = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """Of an error."""
        return self.json["error"]["code"]


@dataclass
class Server:
    """A running server, and what it printed when it was ready."""

    process: subprocess.Popen
    said: dict

    @property
    def port(self):
        return self.said["port"]

    def connection(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method, path, body=None, **headers):
        """One request on a connection of its own; `user_agent="x"` is the header User-Agent."""
        connection = self.connection()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    @contextmanager
    def stream(self, path):
        """The response to a GET, to be read as it comes; the connection is closed at the end."""
        with closing(self.connection()) as connection:
            connection.request("GET", path)
            with connection.getresponse() as answer:
                yield answer

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def classify(self, data, query="", **headers):
        return self.ask("POST", f"/classify{query}", data, **headers)

    def end(self, number=signal.SIGTERM):
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


def command(*args, before="pass"):
    """Return the words of `mbn-deploy serve ARGS`, after the Python statements `before`."""
    return [sys.executable, "-c", f"{before}\n{START}", "serve", *map(str, args)]


@contextmanager
def serving(*args, before="pass", env=None, stdin=None):
    """Start a server on a port of its own choice; at the end it is asked to stop, so that its coverage is counted."""
    words = command(*args, "--port", "0", "--json", before=before)
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=stdin, env={**os.environ, **(env or {})}
    )
    with process:
        try:
            ready, _, _ = select.select([process.stdout], [], [], 120)
            line = process.stdout.readline() if ready else b""
            assert line, process.stderr.read().decode() if ready else "no answer after 120 s"
            yield Server(process, json.loads(line))
            process.terminate()
            with suppress(subprocess.TimeoutExpired):  # what hangs by design
                process.wait(10)
        finally:
            process.kill()


def refused(*args, before="pass"):
    """Return (exit code, stderr) of a server that does not start."""
    done = subprocess.run(command(*args, before=before), capture_output=True, timeout=120, check=False)
    return done.returncode, done.stderr.decode()
