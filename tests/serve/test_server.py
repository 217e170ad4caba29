"""The server over real HTTP: its answers are the Classifier's, and what is wrong is refused in words."""

import asyncio
import json
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from html import escape
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import runtime_models as models
from PIL import Image
from served_model import LABELS, encoded, model, photograph, png  # noqa: F401 - a fixture
from serving import serving

from mbn_deploy.errors import InputError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime import Classifier
from mbn_deploy.serve import api
from mbn_deploy.serve.docs import docs_html
from mbn_deploy.serve.engine import Engine, release_memory
from mbn_deploy.serve.limits import Limits, Refusal

LIMIT = 200_000  # bytes of an upload to the server of these tests
PIXELS = 1_000_000


@pytest.fixture(scope="module")
def server(model):  # noqa: F811
    path, options = model
    limits = ("--max-upload", LIMIT / 1e6, "--max-pixels", PIXELS / 1e6, "--upload-timeout", 20)
    with serving(path, *options, *limits) as started:
        yield started
        assert started.end() == 0
        assert started.process.stderr.read() == b""


@pytest.fixture(scope="module")
def classifier(model):  # noqa: F811
    with Classifier.open(model[0], labels=model[1][1], threads=1) as opened:
        yield opened


def predictions(answer):
    assert answer.status == 200, answer.body
    return [(p["index"], p["label"], p["score"]) for p in answer.json["predictions"]]


def expected(classifier, data, top_k=5):
    return [(p.index, p.label, p.score) for p in classifier.classify(data, top_k)]


TURNED = Image.Exif()
TURNED[0x0112] = 6  # by a quarter
PICTURES = {
    "png": lambda: png(3),
    "grey": lambda: encoded(models.pictures()[4][..., 0]),
    "jpeg": lambda: photograph(300, 200),
    "turned": lambda: photograph(300, 200, exif=TURNED),
    "webp": lambda: photograph(120, 90, "WEBP"),
    "as many pixels as may be": lambda: photograph(1000, 1000),
    "a PNG of as many": lambda: encoded(np.zeros((500, 500), np.uint8)),
    "gif": lambda: photograph(60, 60, "GIF"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PICTURES)
def test_answers_are_the_classifiers(server, classifier, kind):
    data = PICTURES[kind]()
    assert predictions(server.classify(data)) == expected(classifier, data)


@pytest.mark.parametrize("top_k", [1, 2, 5, 1000])
def test_as_many_classes_as_asked_for(server, classifier, top_k):
    found = predictions(server.classify(png(1), f"?top_k={top_k}"))
    assert found == expected(classifier, png(1), top_k)
    assert len(found) == min(top_k, len(LABELS))


def test_the_answer_says_the_size_and_the_times(server):
    answer = server.classify(photograph(300, 200)).json
    assert answer["image"] == {"width": 300, "height": 200}
    assert all(value > 0 for value in answer["milliseconds"].values())


def test_the_body_may_come_in_chunks(server, classifier):
    data = photograph(200, 200)
    pieces = (data[at : at + 1000] for at in range(0, len(data), 1000))
    assert predictions(server.classify(pieces)) == expected(classifier, data)


def test_one_connection_serves_many_requests(server, classifier):
    connection = server.connection()
    for index in range(5):
        connection.request("POST", "/classify", png(index))
        body = json.loads(connection.getresponse().read())
        assert [p["index"] for p in body["predictions"]] == [p.index for p in classifier.classify(png(index))]
    connection.close()


def test_a_model_for_bgr_gets_it(tmp_path):
    path = tmp_path / "tiny.tflite"
    path.write_bytes(models.float_tflite())
    bgr = Preprocess(mean=(1.0, 2.0, 3.0), std=(60.0, 70.0, 80.0), channels="bgr", resize="squash")
    with Classifier.open(path, preprocess=bgr) as opened:
        engine = Engine(opened, Limits())
        for data in (png(2), photograph(50, 40)):
            found = asyncio.run(engine.classify(bytearray(data), 5, None))
            assert found.answer == opened.classify(data)
        engine.close()


def bomb():
    """A PNG of 179 bytes that claims 40,000 × 40,000 pixels."""
    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    made = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


WRONG_PICTURES = {
    "no body": (b"", 400, "empty"),
    "no picture": (b"hello", 422, "unreadable"),
    "HTML": (b"<html><script>alert(1)</script>", 422, "unreadable"),
    "cut off": (photograph(300, 200)[:2000], 422, "unreadable"),
    "a head alone": (b"P6\n", 422, "unreadable"),
    "too many pixels": (photograph(1001, 1000), 413, "too_many_pixels"),
    "too many pixels of a PNG": (encoded(np.zeros((501, 500), np.uint8)), 413, "too_many_pixels"),
    "a bomb": (bomb(), 413, "too_many_pixels"),
    "too many bytes": (bytes(LIMIT + 1), 413, "too_large"),
}


@pytest.mark.parametrize("name", WRONG_PICTURES)
def test_a_wrong_picture_is_refused_in_words(server, name):
    data, status, code = WRONG_PICTURES[name]
    answer = server.classify(data)
    assert (answer.status, answer.code) == (status, code)
    assert " at 0x" not in answer.json["error"]["message"]
    assert "in memory" not in answer.json["error"]["message"]


@pytest.mark.parametrize("top_k", ["0", "-1", "1001", "five", "1e2", "", "²", "99999999999999999999"])
def test_a_wrong_number_is_refused(server, top_k):
    answer = server.classify(png(), f"?top_k={top_k.replace('²', '%C2%B2')}")
    assert (answer.status, answer.code) == (400, "wrong_parameter")


def test_a_form_is_refused_with_the_way_to_do_it(server):
    answer = server.classify(b"--x\r\n", content_type="multipart/form-data; boundary=x")
    assert (answer.status, answer.code) == (415, "form")
    assert "--data-binary" in answer.json["error"]["message"]


def test_paths_and_methods_that_there_are_not(server):
    assert (server.get("/nothing").status, server.get("/nothing").code) == (404, "not_found")
    assert server.get("/../../etc/passwd").status == 404
    assert server.get("/page/index.html").status == 404
    answer = server.ask("PUT", "/classify", png())
    assert (answer.status, answer.code, answer.headers["allow"]) == (405, "wrong_method", "POST")


def raw(server, head, body=b""):
    """A connection that has sent these bytes."""
    client = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    client.sendall(head.replace(b"\n", b"\r\n") + body)
    return client


def everything(client):
    found = b""
    while piece := client.recv(65536):
        found += piece
    client.close()
    return found


def test_what_announces_too_much_is_refused_before_it_is_sent(server):
    client = raw(server, b"POST /classify HTTP/1.1\nHost: localhost\nContent-Length: 100000000\n\n")
    found = everything(client)
    assert found.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in found.lower()


def test_what_grows_too_large_is_cut_off(server):
    """A body in chunks of unknown length: the answer comes although the client never ends it."""
    client = raw(server, b"POST /classify HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n")
    piece = b"%x\r\n" % 50_000 + bytes(50_000) + b"\r\n"
    for _ in range(LIMIT // 50_000 + 1):
        client.sendall(piece)
    assert everything(client).startswith(b"HTTP/1.1 413 ")


def test_a_slow_upload_is_ended(model):  # noqa: F811
    """Although bytes keep coming: the time is that of the whole upload."""
    with serving(model[0], *model[1], "--upload-timeout", 1.5) as started:
        began = time.monotonic()
        client = raw(started, b"POST /classify HTTP/1.1\nHost: localhost\nContent-Length: 1000\n\n", bytes(10))
        for _ in range(3):
            time.sleep(0.2)
            client.sendall(b"x")
        found = everything(client)
        assert found.startswith(b"HTTP/1.1 408 ")
        assert b'"too_slow"' in found
        assert time.monotonic() - began > 1


def test_a_slow_head_is_ended(model):  # noqa: F811
    with serving(model[0], *model[1], before="import mbn_deploy.serve.protocol as s; s.HEAD_SECONDS = 1") as started:
        assert everything(raw(started, b"")) == b""
        assert everything(raw(started, b"GET /health HTTP/1.1\nHost: loc")) == b""
        client = raw(started, b"GET /health HTTP/1.1\nHost: localhost\n\n")
        assert b"200 OK" in client.recv(65536)
        client.sendall(b"GET /hea")  # the second of one connection
        assert everything(client) in (b"", b'{"status":"ok"}')  # the first one's body, if that came apart
        assert started.get("/health").status == 200


@pytest.mark.parametrize("head", [b"nonsense\n\n", b"GET / HTTP/1.1\n\n", b"GET / HTTP/1.1\nHost: a\nHost: b\n\n"])
def test_what_is_no_http_is_refused(server, head):
    assert everything(raw(server, head)).startswith(b"HTTP/1.1 4")


def test_a_head_without_end_is_refused(server):
    client = raw(server, b"GET / HTTP/1.1\nHost: localhost\nX: ", b"x" * 100_000)
    assert everything(client).startswith(b"HTTP/1.1 4")


def test_clients_that_go_away_leave_nothing_behind(server, classifier):
    for _ in range(20):
        client = raw(server, b"POST /classify HTTP/1.1\nHost: localhost\nContent-Length: 1000\n\n", bytes(500))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        client.close()
    assert predictions(server.classify(png())) == expected(classifier, png())


def test_uploads_share_a_bound(model):  # noqa: F811
    before = "import mbn_deploy.serve.limits as m; m.Limits.buffered_bytes = 100_000"  # what the command starts from
    with serving(model[0], *model[1], "--max-upload", 0.05, before=before) as started:
        head = b"POST /classify HTTP/1.1\nHost: localhost\nContent-Length: 50000\n\n"
        held = [raw(started, head, bytes(45_000)) for _ in range(2)]
        deadline = time.monotonic() + 60
        while (answer := started.classify(bytes(50_000))).status != 503:  # until the others' bytes are there
            assert time.monotonic() < deadline
        assert (answer.code, answer.headers["retry-after"]) == ("busy", "1")
        for client in held:
            client.close()
        while started.classify(bytes(50_000)).status != 422:
            assert time.monotonic() < deadline


def test_too_many_that_wait_are_sent_away(classifier):
    engine = Engine(classifier, Limits(waiting=-10))  # all are too many
    with pytest.raises(Refusal) as caught:
        engine.check_room()
    assert (caught.value.status, caught.value.headers()) == (503, {"Retry-After": "1"})
    engine.close()


def test_every_answer_keeps_browsers_careful(server):
    for answer in (
        server.get("/"), server.get("/app.js"), server.get("/docs"), server.get("/nothing"), server.classify(b""),
        server.get("/info", host="evil.example"), server.get("/camera/events"),
    ):  # fmt: skip
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(server):
    page, script = (server.get(path).body.decode() for path in ("/", "/app.js"))
    assert not re.search(r"\son\w+\s*=|style=|<style|<script>|https?://|//\w", page)
    assert "innerHTML" not in script
    assert "eval(" not in script
    for path in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert server.get(f"/{path}").status == 200


# ---- the description


def test_the_description_is_openapi(server):
    from openapi_spec_validator import validate

    said = server.get("/openapi.json").json
    validate(said)
    assert said == json.loads(json.dumps(api.openapi()))
    with_token = {"/classify", "/info", "/camera/frame.jpg", "/camera/events"}
    assert set(said["paths"]) | set(api.FILES) == {*api.OPEN_PATHS, *with_token}


def schema_of(path, method, status):
    described = api.openapi()
    answer = described["paths"][path][method.lower()]["responses"][str(status)]
    return {**answer["content"]["application/json"]["schema"], "components": described["components"]}


def test_answers_are_as_described(server):
    found = [
        ("/classify", "POST", server.classify(png())),
        *(("/classify", "POST", server.classify(data)) for data, _, _ in WRONG_PICTURES.values()),
        ("/classify", "POST", server.classify(png(), "?top_k=x")),
        ("/info", "GET", server.get("/info")),
        ("/info", "GET", server.get("/info", host="evil.example")),
        ("/info", "GET", server.get("/info", origin="http://evil.example")),
        ("/health", "GET", server.get("/health")),
        ("/camera/frame.jpg", "GET", server.get("/camera/frame.jpg")),
        ("/camera/events", "GET", server.get("/camera/events")),
        ("/login", "POST", server.ask("POST", "/login", b"[]")),
    ]
    for path, method, answer in found:
        jsonschema.validate(answer.json, schema_of(path, method, answer.status))


def test_the_page_for_people_has_every_operation_and_error():
    page = docs_html("http://<board>/", with_token=True)
    for operation in api.OPERATIONS:
        assert f"{operation.method} {operation.path}" in page
    assert all(escape(text) in page for status, text in api.ERRORS.items() if status != 405)  # no path has two methods
    assert "<board>" not in page


def test_the_examples_of_the_description_work(server, tmp_path):
    (tmp_path / "cat.jpg").write_bytes(photograph(60, 60))
    classify = next(operation for operation in api.OPERATIONS if operation.name == "classify")
    line = classify.example.format(url=server.said["url"], bearer="")
    done = subprocess.run(["bash", "-c", f"{line} --silent"], cwd=tmp_path, capture_output=True, check=True)
    assert len(json.loads(done.stdout)["predictions"]) == 3


def test_info(server):
    found = server.get("/info").json
    assert found["classes"] == len(LABELS)
    assert found["input"] == {"width": models.SIZE[1], "height": models.SIZE[0]}
    assert found["limits"] == {"upload_bytes": LIMIT, "pixels": PIXELS, "upload_seconds": 20}
    assert found["camera"] is False


def test_releasing_memory_does_no_harm():
    release_memory()


def test_stored_size_decodes_nothing():
    from mbn_deploy.runtime.image_checks.sizes import TooManyPixelsError
    from mbn_deploy.runtime.images import stored_size

    assert stored_size(photograph(300, 200)) == (300, 200)
    assert stored_size(photograph(300, 200, "PNG")[:200]) == (300, 200)  # the pixels are not there
    with pytest.raises(TooManyPixelsError):
        stored_size(bomb())
    with pytest.raises(InputError, match="0 bytes"):
        stored_size(b"")


@pytest.mark.slow
def test_under_load(model):  # noqa: F811
    """32 clients with good, bad, huge and slow uploads: no wrong answer, no crash, memory bounded."""
    program = Path(__file__).parents[2] / "robustness" / "serve_load.py"
    words = [
        sys.executable,
        program,
        model[0],
        "--labels",
        model[1][1],
        "--clients",
        "32",
        "--requests",
        "1500",
        "--json",
    ]
    done = subprocess.run(words, capture_output=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["wrong"] == 0
    assert found["exit_code"] == 0
