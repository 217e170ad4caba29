"""Who is answered: the token, the host's name, other sites' pages; and how the server ends."""

import http.client
import json
import signal
import subprocess
import threading
from contextlib import closing

import pytest
from served_model import model, photograph, png  # noqa: F401 - a fixture
from serving import command, serving

from mbn_deploy.errors import UsageError
from mbn_deploy.serve.access import Access, check_token

TOKEN = "a-token-of-the-tests"  # noqa: S105 - it guards nothing
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is tested


@pytest.fixture(scope="module")
def guarded(model):  # noqa: F811
    """Reachable from elsewhere: 0.0.0.0, with a token that the environment gives."""
    arguments = ("--host", EVERYWHERE, "--allow-host", "Board.Example")
    with serving(model[0], *model[1], *arguments, env={"MBN_DEPLOY_TOKEN": TOKEN}) as started:
        yield started


@pytest.mark.parametrize("path", ["/info", "/camera/frame.jpg", "/camera/events", "/classify"])
def test_without_the_token_nothing_is_said(guarded, path):
    method = "POST" if path == "/classify" else "GET"
    answer = guarded.ask(method, path, png() if path == "/classify" else None)
    assert (answer.status, answer.code) == (401, "token_needed")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN,
     "Bearer \xff\xfe", f"Bearer {TOKEN.upper()}", "Bearer " + "x" * 5000],
)  # fmt: skip
def test_a_wrong_token_is_refused(guarded, given):
    assert guarded.get("/info", authorization=given).status == 401


def test_with_the_token_all_is_answered(guarded):
    assert guarded.get("/info", authorization=f"Bearer {TOKEN}").status == 200
    assert guarded.get("/info", authorization=f"bearer  {TOKEN}").status == 200
    assert guarded.classify(png(), authorization=f"Bearer {TOKEN}").status == 200


@pytest.mark.parametrize("path", ["/", "/app.js", "/style.css", "/icon.svg", "/health", "/docs", "/openapi.json"])
def test_what_says_nothing_needs_no_token(guarded, path):
    answer = guarded.get(path)
    assert answer.status == 200
    assert TOKEN.encode() not in answer.body


def test_the_token_is_not_said_where_it_was_given(guarded):
    assert "token" not in guarded.said


def login(server, body, **headers):
    return server.ask("POST", "/login", body, **headers)


def test_a_login_gives_a_cookie_that_scripts_cannot_read(guarded):
    answer = login(guarded, json.dumps({"token": TOKEN}))
    assert answer.status == 204
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    value = cookie.partition(";")[0]
    assert guarded.get("/info", cookie=value).status == 200
    assert guarded.get("/info", cookie=f"a=b; {value}; c=d").status == 200
    assert guarded.get("/info", cookie=f"{value}x").status == 401
    name = value.partition("=")[0]
    assert guarded.get("/info", cookie=f"{name}={TOKEN}").status == 401
    assert guarded.get("/info", cookie=f"{name}=").status == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [('{"token": "wrong"}', 401), ('{"token": 1}', 400), ("[]", 400), ("null", 400), ("{", 400), ("", 400),
     (b"\xff\xfe", 400), ("[" * 900, 400), ("x" * 2000, 413)],
)  # fmt: skip
def test_a_wrong_login_is_refused(guarded, body, status):
    answer = login(guarded, body)
    assert answer.status == status
    assert "set-cookie" not in answer.headers


def test_a_server_without_a_token_knows_no_login(model):  # noqa: F811
    with serving(model[0], *model[1]) as started:
        assert login(started, '{"token": ""}').status == 401


def test_a_token_is_made_where_one_is_needed(model):  # noqa: F811
    with serving(model[0], *model[1], "--host", EVERYWHERE) as started:
        token = started.said["token"]
        assert check_token(token) == token
        assert started.get("/info").status == 401
        assert started.get("/info", authorization=f"Bearer {token}").status == 200


def test_a_person_gets_the_address_with_the_token(model):  # noqa: F811
    words = command(model[0], *model[1], "--port", 0, "--host", EVERYWHERE)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        address, token = process.stdout.readline().strip().split("#token=")
        process.terminate()
        said = process.stderr.read()
        assert address.startswith("http://")
        assert EVERYWHERE not in address
        assert "Bearer" in said
        assert token not in said


NO_TOKENS = ("", "short", "x" * 15, "with spaces in it, long", "ünïcode-of-some-length", "tab\there-and-long-enough")


@pytest.mark.parametrize("token", NO_TOKENS)
def test_a_token_that_is_no_good(token):
    with pytest.raises(UsageError, match="16"):
        check_token(token)


def test_the_command_refuses_such_a_token(model):  # noqa: F811
    done = subprocess.run(command(model[0], *model[1], "--token", "short"), capture_output=True, check=False)
    assert done.returncode == 2
    assert b"token" in done.stderr


# ---- other names, other sites


OWN = ("localhost", "LOCALHOST:1", "127.0.0.1:80", "192.0.2.7", "[::1]:8080", "board.example", "localhost.")
OTHER = ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[evil]", "1.2.3.4.5")


@pytest.mark.parametrize("host", OWN)
def test_own_names_and_addresses(guarded, host):
    assert guarded.get("/health", host=host).status == 200


@pytest.mark.parametrize("host", OTHER)
def test_other_names(guarded, host):
    """A page of evil.example whose name now points here (DNS rebinding) is of one origin with us."""
    answer = guarded.get("/health", host=host)
    assert (answer.status, answer.code) == (421, "wrong_host")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "http://localhost.evil.example"]
)
def test_pages_of_other_sites(guarded, origin):
    headers = {"host": "localhost", "origin": origin, "authorization": f"Bearer {TOKEN}"}
    for answer in (guarded.classify(png(), **headers), login(guarded, json.dumps({"token": TOKEN}), **headers)):
        assert (answer.status, answer.code) == (403, "cross_origin")


def test_its_own_page(guarded):
    headers = {"host": "localhost:99", "origin": "http://localhost:99", "authorization": f"Bearer {TOKEN}"}
    assert guarded.classify(png(), sec_fetch_site="same-origin", **headers).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_browser_says_of_the_asking_page(guarded, site):
    token = f"Bearer {TOKEN}"
    assert guarded.get("/camera/frame.jpg", sec_fetch_site=site, authorization=token).status == 403
    assert guarded.get("/", sec_fetch_site=site).status == 200  # somebody followed a link


def test_the_session_is_the_servers_own():
    first, second = (Access.for_server(TOKEN, 1, (), ()) for _ in range(2))
    assert first.session != second.session
    assert first.session not in repr(first)


# ---- the end


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_it(model, number, code, tmp_path):  # noqa: F811
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.png").write_bytes(png())
    with serving(model[0], *model[1], "--camera", f"folder:{tmp_path / 'frames'}", "--fps", 0.1) as started:
        with started.stream("/camera/events") as watching, closing(started.connection()) as idle:
            assert watching.fp.readline().strip()  # the length of a chunk
            assert watching.fp.readline() == b"event: frame\n"
            idle.request("GET", "/health")
            idle.getresponse().read()
            assert started.end(number) == code
            assert b"event: end" in watching.fp.read()  # the stream came to its end in order
        said = started.process.stderr.read().decode()
        assert said == ("interrupted\n" if number == signal.SIGINT else "")


def test_what_was_asked_is_answered_before_the_end(model):  # noqa: F811
    """The signal comes while uploads are on their way: whoever gets an answer gets a whole one."""
    data, answers = photograph(2000, 1500, "PNG"), []
    with serving(model[0], *model[1]) as started:

        def ask():
            try:
                answers.append(started.classify(data))
            except (OSError, http.client.HTTPException):
                answers.append(None)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert started.end() == 0
        for thread in threads:
            thread.join()
    assert len(answers) == 8
    assert all(answer is None or answer.status == 200 for answer in answers)
