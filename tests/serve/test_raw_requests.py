"""Bytes that no browser sends: a refusal or an answer, never an error of the server, a traceback or a hang."""

import json
import re
import socket
import time

import pytest
from served_model import model, png  # noqa: F401 - a fixture
from serving import serving

TOKEN = "a-token-of-the-tests"  # noqa: S105 - it guards nothing


@pytest.fixture(scope="module")
def server(model):  # noqa: F811
    with serving(model[0], *model[1], "--upload-timeout", 3, env={"MBN_DEPLOY_TOKEN": TOKEN}) as started:
        yield started
        assert started.get("/health").status == 200
        assert started.end() == 0
        assert started.process.stderr.read() == b""


def exchange(server, data):
    """Send bytes, and return all that comes until the server closes the connection or says nothing for a while."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(data)
        found = b""
        while True:
            client.settimeout(1.0 if found else 10.0)
            try:
                piece = client.recv(65536)
            except (TimeoutError, ConnectionResetError):
                return found
            if not piece:
                return found
            found += piece


def request(line, *headers, body=b""):
    return "\r\n".join([line, *headers, "", ""]).encode("latin-1") + body


HOST, AUTH = "Host: localhost", f"Authorization: Bearer {TOKEN}"
CHUNKED = "Transfer-Encoding: chunked"
SMUGGLED = b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n"

AMBIGUOUS = {
    "both": request("POST /login HTTP/1.1", HOST, "Content-Length: 4", CHUNKED, body=b"0\r\n\r\n" + SMUGGLED),
    "both, the other way round": request(
        "POST /login HTTP/1.1", HOST, CHUNKED, "Content-Length: 400", body=b"0\r\n\r\n"
    ),
    "both, in a GET": request("GET /health HTTP/1.1", HOST, CHUNKED, "Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED),
    "both, with another case": request("POST /login HTTP/1.1", HOST, "CONTENT-LENGTH: 5", "TRANSFER-ENCODING: Chunked"),
    "chunks in HTTP/1.0": request("POST /login HTTP/1.0", HOST, CHUNKED, body=b"0\r\n\r\n"),
    "two lengths": request("POST /login HTTP/1.1", HOST, "Content-Length: 5", "Content-Length: 6", body=b"12345"),
    "two lengths in one": request("POST /login HTTP/1.1", HOST, "Content-Length: 5, 6", body=b"12345"),
    "a length with a sign": request("POST /login HTTP/1.1", HOST, "Content-Length: +5", body=b"12345"),
    "a negative length": request("POST /login HTTP/1.1", HOST, "Content-Length: -5", body=b"12345"),
    "a length in hexadecimal": request("POST /login HTTP/1.1", HOST, "Content-Length: 0x5", body=b"12345"),
    "a length with a line": request("POST /login HTTP/1.1", HOST, "Content-Length: 1_0", body=b"12345"),
    "an endless length": request("POST /login HTTP/1.1", HOST, "Content-Length: " + "9" * 60),
    "an empty length": request("POST /login HTTP/1.1", HOST, "Content-Length: ", body=b"12345"),
    "another encoding": request("POST /login HTTP/1.1", HOST, "Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked twice": request("POST /login HTTP/1.1", HOST, "Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "chunked in two lines": request("POST /login HTTP/1.1", HOST, CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "chunked, and what it is not": request("POST /login HTTP/1.1", HOST, CHUNKED, "Transfer-Encoding: identity"),
    "a space before the colon": request("POST /login HTTP/1.1", HOST, "Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "a size that is none": request("POST /login HTTP/1.1", HOST, CHUNKED, body=b"xyz\r\nabc\r\n"),
    "a negative size": request("POST /login HTTP/1.1", HOST, CHUNKED, body=b"-1\r\nabc\r\n"),
    "an endless size": request("POST /login HTTP/1.1", HOST, CHUNKED, body=b"f" * 40 + b"\r\nabc\r\n"),
    "a size with 0x": request("POST /login HTTP/1.1", HOST, CHUNKED, body=b"0x3\r\nabc\r\n0\r\n\r\n"),
    "a chunk longer than its size": request("POST /login HTTP/1.1", HOST, CHUNKED, body=b"1\r\nabc\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_request_without_a_certain_end_is_refused(server, name):
    """Once, with a connection that is closed behind it: what follows is no request."""
    found = exchange(server, AMBIGUOUS[name])
    assert found.startswith(b"HTTP/1.1 400 ")
    assert len(re.findall(rb"HTTP/1\.1 \d", found)) == 1
    assert b"connection: close" in found.lower()


STRANGE = {
    "no HTTP": b"hello\r\n\r\n",
    "an empty line": b"\r\n\r\n",
    "zeros": bytes(2000),
    "TLS": bytes.fromhex("160301020001") + bytes(100),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/9.9": request("GET /health HTTP/9.9", HOST),
    "SSH": b"SSH-2.0-OpenSSH_9.0\r\n\r\n",
    "a proxy's line": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + request("GET / HTTP/1.1", HOST),
    "no host": request("GET /health HTTP/1.1"),
    "half an address": request("GET /health HTTP/1.1", "Host: [::1"),
    "half an address and an unknown path": request("GET /x HTTP/1.1", "Host: [::1"),
    "rubbish behind an address": request("GET /docs HTTP/1.1", "Host: [::1]x"),
    "an address in brackets": request("GET /docs HTTP/1.1", "Host: [127.0.0.1]"),
    "a port that is none": request("GET /docs HTTP/1.1", "Host: localhost:x"),
    "a port too large": request("GET /docs HTTP/1.1", "Host: localhost:99999"),
    "a host with a path": request("GET /docs HTTP/1.1", "Host: localhost/x?y#z@"),
    "a host with a user": request("GET /docs HTTP/1.1", "Host: a@localhost"),
    "an empty host": request("GET /docs HTTP/1.1", "Host:"),
    "a host of other letters": request("GET /docs HTTP/1.1", "Host: l\xf6calhost"),
    "an absolute target": request("GET http://localhost/health HTTP/1.1", HOST),
    "an absolute target with half an address": request("GET http://[::1/health HTTP/1.1", HOST),
    "CONNECT": request("CONNECT localhost:80 HTTP/1.1", HOST),
    "all of the server": request("OPTIONS * HTTP/1.1", HOST),
    "TRACE": request("TRACE /health HTTP/1.1", HOST),
    "a method of its own": request("QWERTY /health HTTP/1.1", HOST),
    "a method of symbols": request("!#$ /health HTTP/1.1", HOST),
    "a long method": request("A" * 5000 + " /health HTTP/1.1", HOST),
    "bytes that are no UTF-8": request("GET /%ff%fe%ed%a0%80 HTTP/1.1", HOST),
    "a zero in the path": request("GET /%00 HTTP/1.1", HOST),
    "line breaks in the path": request("GET /%0d%0aX:%20y HTTP/1.1", HOST),
    "escapes in the path": request("GET /%1b[31m HTTP/1.1", HOST, "User-Agent: \x1b[31m"),
    "bad escapes in the path": request("GET /%zz% HTTP/1.1", HOST),
    "a path upwards": request("GET /../../../etc/passwd HTTP/1.1", HOST),
    "a path upwards, escaped": request("GET /%2e%2e%2fetc/passwd HTTP/1.1", HOST),
    "a long path": request("GET /" + "a" * 12_000 + " HTTP/1.1", HOST),
    "a path of slashes": request("GET ///// HTTP/1.1", HOST),
    "a path and a fragment": request("GET /health#x HTTP/1.1", HOST),
    "no path": request("GET ?x HTTP/1.1", HOST),
    "bytes in the target": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "many parameters": request("POST /classify?" + "top_k=1&" * 1500 + " HTTP/1.1", HOST, AUTH, "Content-Length: 0"),
    "a surrogate as a parameter": request("POST /classify?top_k=%ed%a0%80 HTTP/1.1", HOST, AUTH, "Content-Length: 0"),
    "no number as a threshold": request("POST /classify?threshold=nan HTTP/1.1", HOST, AUTH, "Content-Length: 0"),
    "a huge threshold": request("POST /classify?threshold=1e999 HTTP/1.1", HOST, AUTH, "Content-Length: 0"),
    "digits of another script": request("POST /classify?top_k=%d9%a3 HTTP/1.1", HOST, AUTH, "Content-Length: 0"),
    "many headers": request("GET /health HTTP/1.1", HOST, *(f"X-{index}: y" for index in range(500))),
    "folded headers": request("GET /health HTTP/1.1", HOST, "X: a\r\n b"),
    "a folded length": request("POST /login HTTP/1.1", HOST, "Content-Length:\r\n 2", body=b"{}"),
    "a header without a name": request("GET /health HTTP/1.1", HOST, ": x"),
    "a header without a colon": request("GET /health HTTP/1.1", HOST, "abc"),
    "a zero in a header": request("GET /health HTTP/1.1", HOST, "X: a\0b"),
    "lines without CR": b"GET /health HTTP/1.1\nHost: localhost\n\n",
    "broken cookies": request("GET /info HTTP/1.1", HOST, 'Cookie: ="\\777; ;;; a=b=c; \xff\xfe'),
    "a cookie of another script": request("GET /info HTTP/1.1", HOST, "Cookie: mbn_deploy=\xed\xa0\x80"),
    "a broken token": request("GET /info HTTP/1.1", HOST, "Authorization: Bearer \xed\xa0\x80"),
    "an origin that is none": request("GET /info HTTP/1.1", HOST, AUTH, "Origin: \xff://["),
    "a null origin": request("GET /info HTTP/1.1", HOST, AUTH, "Origin: null"),
    "an upgrade": request("GET /health HTTP/1.1", HOST, "Connection: upgrade", "Upgrade: websocket"),
    "an upgrade to HTTP/2": request("GET /health HTTP/1.1", HOST, "Connection: Upgrade", "Upgrade: h2c"),
    "an expectation": request("POST /login HTTP/1.1", HOST, "Expect: 100-continue", "Content-Length: 2", body=b"{}"),
    "another expectation": request("POST /login HTTP/1.1", HOST, "Expect: miracles", "Content-Length: 2", body=b"{}"),
    "a range": request("GET /app.js HTTP/1.1", HOST, "Range: bytes=5-1,-3,a-b"),
    "HEAD": request("HEAD /health HTTP/1.1", HOST),
    "HEAD of a file": request("HEAD /app.js HTTP/1.1", HOST),
    "a body in a GET": request("GET /health HTTP/1.1", HOST, "Content-Length: 5", body=b"12345"),
    "many requests at once": request("GET /health HTTP/1.1", HOST) * 200,
    "a refusal and what follows": request("POST /nothing HTTP/1.1", HOST, "Content-Length: 9") * 3,
    "a trailer": request("POST /login HTTP/1.1", HOST, CHUNKED, body=b"2\r\n{}\r\n0\r\nX: y\r\nHost: evil\r\n\r\n"),
    "an extension of a chunk": request("POST /login HTTP/1.1", HOST, CHUNKED, body=b"2;a=b\r\n{}\r\n0\r\n\r\n"),
    "nonsense behind a refused head": request("POST /nothing HTTP/1.1", HOST, CHUNKED, body=b"zz\r\n"),
    "nonsense in an upload": request("POST /classify HTTP/1.1", HOST, AUTH, CHUNKED, body=b"2\r\nab\r\nzz\r\n"),
    "a form": request("POST /classify HTTP/1.1", HOST, AUTH, "Content-Type: multipart/form-data", "Content-Length: 0"),
    "a type of bytes": request("POST /classify HTTP/1.1", HOST, AUTH, "Content-Type: \xff\xfe", "Content-Length: 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_strange_bytes_get_an_answer(server, name):
    found = exchange(server, STRANGE[name])
    assert found.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4", b"HTTP/1.1 1")), found[:200]
    assert b"HTTP/1.1 5" not in found
    assert b"Traceback" not in found


BODIES = {
    "half a pair": json.dumps({"token": "\ud800"}),
    "half a pair in a long token": json.dumps({"token": TOKEN + "\udfff"}),
    "a question mark for it": json.dumps({"token": "?" * len(TOKEN)}),
    "other letters": json.dumps({"token": "ü€\U0001f600"}),
    "a zero": json.dumps({"token": "\0"}),
    "nothing": json.dumps({"token": ""}),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_token_of_any_letters_is_a_wrong_one(server, name):
    answer = server.ask("POST", "/login", BODIES[name].encode())
    assert (answer.status, answer.code) == (401, "wrong_token")


@pytest.mark.parametrize(
    "body",
    [b"token=%ED%A0%80", b'{"token": "\xed\xa0\x80"}', b"\xff", b"[", b"[" * 900, b"1" * 900, b"NaN", b'{"token": 1}',
     b'{"token": null}', b'"token"', b"{}", b'{"token": ["a"]}', b"\xef\xbb\xbf{}", b'{"token": "a", "token": 2}'],
)  # fmt: skip
def test_a_login_that_is_no_json_is_refused(server, body):
    answer = server.ask("POST", "/login", body)
    assert (answer.status, answer.code) == (400, "no_token")


def test_one_client_does_not_shut_out_the_others(server):
    """One address holds as many half heads and half bodies as it can; another one is answered."""
    held = []
    for index in range(400):
        client = socket.socket()
        client.settimeout(10)
        client.bind(("127.0.0.2", 0))
        client.connect(("127.0.0.1", server.port))
        kind = (
            request("POST /login HTTP/1.1", HOST, "Content-Length: 9") if index % 2 else b"GET /health HTTP/1.1\r\nHos"
        )
        client.sendall(kind)
        held.append(client)
        if index % 40 == 0:
            assert server.get("/health").status == 200
    began = time.monotonic()
    for _ in range(10):
        assert server.get("/health").status == 200
    assert server.classify(png(), authorization=f"Bearer {TOKEN}").status == 200
    assert time.monotonic() - began < 8
    for client in held:
        client.close()


def test_a_client_that_holds_heads_is_still_answered_itself(server):
    held = []
    for _ in range(100):
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"GET /hea")
        held.append(client)
    assert server.get("/health").status == 200
    for client in held:
        client.close()
