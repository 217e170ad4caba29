"""The camera: one source for every viewer, closed when nobody looks."""

import asyncio
import io
import json
import shutil
import subprocess
import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import runtime_models as models
from PIL import Image
from served_model import model, png  # noqa: F401 - a fixture
from serving import refused, serving

from mbn_deploy.errors import InputError
from mbn_deploy.runtime import Classifier
from mbn_deploy.runtime.camera import Frame, frames
from mbn_deploy.serve import app as application
from mbn_deploy.serve import camera as cameras
from mbn_deploy.serve.camera import Camera, ClassifiedFrame, StreamEnd
from mbn_deploy.serve.engine import Engine
from mbn_deploy.serve.limits import Limits, Refusal

COUNT = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    frames_folder = tmp_path_factory.mktemp("frames")
    for index in range(COUNT):
        (frames_folder / f"{index}.png").write_bytes(png(index))
    return frames_folder


@pytest.fixture(scope="module")
def classifier(model):  # noqa: F811
    with Classifier.open(model[0], labels=model[1][1], threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(model, folder):  # noqa: F811
    with serving(model[0], *model[1], "--camera", f"folder:{folder}", "--fps", 20) as started:
        yield started
        assert started.end() == 0
        assert started.process.stderr.read() == b""


def events_of(server):
    """(kind, data) of a stream, until it ends."""
    with server.stream("/camera/events") as answer:
        assert answer.status == 200
        assert answer.getheader("content-type").startswith("text/event-stream")
        for block in answer.read().decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if lines:
                yield lines["event"], json.loads(lines["data"])


def test_every_frame_with_its_answer_and_the_end(server, classifier):
    found = list(events_of(server))
    assert found[-1][0] == "end"
    numbers = [data["frame"] for kind, data in found[:-1]]
    assert numbers == sorted(set(numbers))
    assert numbers  # a viewer on a busy machine misses some
    for kind, data in found[:-1]:
        assert kind == "frame"
        expected = classifier.classify(models.pictures()[data["frame"] - 1])
        assert [(p["index"], p["label"], p["score"]) for p in data["predictions"]] == [
            (p.index, p.label, p.score) for p in expected
        ]


def test_a_frame_by_its_number_and_the_next_one(server):
    answer = server.get("/camera/frame.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    number = int(answer.headers["x-frame"])
    assert Image.open(io.BytesIO(answer.body)).size == models.SIZE[::-1]
    again = server.get(f"/camera/frame.jpg?number={number}")
    assert (again.body, int(again.headers["x-frame"])) == (answer.body, number)
    gone = server.get("/camera/frame.jpg?number=1000000")
    assert (gone.status, gone.code) == (404, "gone")
    wrong = server.get("/camera/frame.jpg?number=x")
    assert (wrong.status, wrong.code) == (400, "wrong_parameter")


def test_without_a_camera(model):  # noqa: F811
    with serving(model[0], *model[1]) as started:
        for path in ("/camera/frame.jpg", "/camera/events"):
            assert (started.get(path).status, started.get(path).code) == (404, "no_camera")


def test_places_are_counted_and_given_back(model, folder):  # noqa: F811
    with serving(model[0], *model[1], "--camera", f"folder:{folder}", "--fps", 0.05) as started:
        with ExitStack() as others, started.stream("/camera/events") as first:
            assert first.status == 200
            for _ in range(Limits().viewers - 1):
                assert others.enter_context(started.stream("/camera/events")).status == 200
            answer = started.get("/camera/events")
            assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "busy", "5")
        deadline = time.monotonic() + 60
        while started.get("/camera/frame.jpg").status == 503:  # until the server has seen that one is gone
            assert time.monotonic() < deadline


def test_a_camera_that_breaks_says_so(model, folder, tmp_path):  # noqa: F811
    copy = shutil.copytree(folder, tmp_path / "frames")
    (copy / "0.png").write_bytes(b"damaged")
    with serving(model[0], *model[1], "--camera", f"folder:{copy}") as started:
        (kind, data), *more = events_of(started)
        assert (kind, more) == ("failed", [])
        assert "0.png" in data["message"]
        answer = started.get("/camera/frame.jpg")
        assert (answer.status, answer.code) == (503, "camera")


def test_a_camera_that_there_is_not_is_said_at_once(model):  # noqa: F811
    code, said = refused(model[0], *model[1], "--camera", "folder:/nothing/here")
    assert code == 3
    assert "/nothing/here" in said
    code, said = refused(model[0], *model[1], "--camera", "webcam")
    assert code == 2
    assert "'webcam'" in said
    code, said = refused(model[0], *model[1], "--camera", "-", "--frame-size", "4x4")
    assert code == 2


def test_frames_from_a_pipe(model):  # noqa: F811
    with serving(model[0], *model[1], "--camera", "-", "--fps", 50, stdin=subprocess.PIPE) as started:
        jpegs = io.BytesIO()
        for pixels in models.pictures(3):
            Image.fromarray(pixels).save(jpegs, "JPEG")
        started.process.stdin.write(jpegs.getvalue())
        started.process.stdin.close()
        kinds = [kind for kind, _ in events_of(started)]
        assert kinds.count("frame") >= 1
        assert kinds[-1] == "end"
        assert started.end() == 0


# ---- the thread


class Endless:
    """A source whose frames a test lets go, one by one."""

    def __init__(self):
        self.opened, self.closed = 0, 0
        self.go, self._end = threading.Semaphore(0), threading.Event()

    def open(self):
        self.opened += 1
        self._end.clear()
        return self

    def __iter__(self):
        while True:
            self.go.acquire()
            if self._end.is_set():
                return
            yield self

    def rgb(self):
        return np.zeros((*models.SIZE, 3), np.uint8)

    def close(self):
        self.closed += 1
        self._end.set()
        self.go.release()


@pytest.fixture
def engine(classifier):
    opened = Engine(classifier, Limits())
    yield opened
    opened.close()


async def until(condition):
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def test_one_source_for_all_and_none_for_nobody(engine, monkeypatch):
    monkeypatch.setattr(cameras, "LINGER_SECONDS", 0.2)
    source = Endless()
    camera = Camera(source.open, engine, viewers=2, per_second=1000)

    async def play():
        assert not camera.running
        async with camera.watch() as first, camera.watch() as second:
            source.go.release()
            newest = await asyncio.gather(first.next(), second.next())
            assert newest[0] is newest[1]
            assert source.opened == 1
            with pytest.raises(Refusal):
                async with camera.watch():
                    pass
        async with camera.watch() as third:  # back before the camera was closed
            assert camera.running
            assert await third.next() is newest[0]
        await until(lambda: source.closed and not camera.running)
        assert source.opened == 1
        async with camera.watch() as fourth:
            for _ in range(3):
                source.go.release()
            assert (await fourth.next()).number == 1
            assert source.opened == 2
        await camera.close()
        with pytest.raises(Refusal):
            async with camera.watch():
                pass

    asyncio.run(play())
    assert "camera" not in {thread.name for thread in threading.enumerate()}


def test_who_waits_for_a_frame_is_told_of_the_end(engine):
    source = Endless()
    camera = Camera(source.open, engine, viewers=2, per_second=1000)

    async def play():
        async with camera.watch() as viewer:
            waiting = asyncio.ensure_future(viewer.next())
            await asyncio.sleep(0.05)
            await camera.close()
            assert await waiting == StreamEnd("end")

    asyncio.run(play())
    assert source.closed


class Slow(Endless):
    """A source that takes its time to open and to close, like a device, and cannot be had twice."""

    def __init__(self):
        super().__init__()
        self.may_open, self.may_close, self.free = threading.Event(), threading.Event(), True

    def open(self):
        self.opened += 1
        assert self.may_open.wait(60)
        assert self.free, "opened twice"
        self.free = False
        return super().open()

    def close(self):
        assert self.may_close.wait(60)
        self.free = True
        super().close()


def test_nobody_looks_any_more_when_it_is_open(engine, monkeypatch):
    """No frame needs to come for it to be closed."""
    monkeypatch.setattr(cameras, "LINGER_SECONDS", 0)
    source = Slow()
    source.may_close.set()
    camera = Camera(source.open, engine, viewers=1, per_second=1000)

    async def play():
        async with camera.watch():
            await until(lambda: source.opened)
        await until(lambda: not camera.running)
        source.may_open.set()
        await until(lambda: source.closed)

    asyncio.run(play())


def test_it_is_opened_again_when_it_is_closed(engine, monkeypatch):
    monkeypatch.setattr(cameras, "LINGER_SECONDS", 0)
    source = Slow()
    source.may_open.set()
    camera = Camera(source.open, engine, viewers=1, per_second=1000)

    async def play():
        async with camera.watch() as first:
            source.go.release()
            assert (await first.next()).number == 1
        await until(lambda: not camera.running)
        async with camera.watch() as second:
            await asyncio.sleep(0.1)
            source.may_close.set()
            source.go.release()
            assert isinstance(await second.next(), ClassifiedFrame)
        await camera.close()

    asyncio.run(play())


def test_a_frame_that_does_not_come_takes_no_place_for_ever(engine, monkeypatch):
    monkeypatch.setattr(application, "FRAME_SECONDS", 0.1)
    camera = Camera(Endless().open, engine, viewers=1, per_second=1000)
    handlers = application.Handlers(application.Services(engine, Limits(), None, camera))
    request = SimpleNamespace(query_params={})

    async def play():
        for _ in range(2):
            with pytest.raises(Refusal) as caught:
                await handlers.frame(request)
            assert (caught.value.status, caught.value.retry) == (503, 5)
        await camera.close()

    asyncio.run(play())


def test_a_slow_viewer_gets_the_newest(engine):
    source = Endless()
    camera = Camera(source.open, engine, viewers=2, per_second=1000)

    async def play():
        async with camera.watch() as slow, camera.watch() as quick:
            for number in range(1, 10):
                source.go.release()
                assert (await quick.next()).number == number
            assert (await slow.next()).number == 9
            assert camera.recent_frame(9).number == 9
            assert camera.recent_frame(9 - cameras.KEPT + 1) is not None
            assert camera.recent_frame(9 - cameras.KEPT) is None
        await camera.close()

    asyncio.run(play())


def test_a_source_that_fails_to_open(engine):
    def broken():
        raise InputError("no such device")

    camera = Camera(broken, engine, viewers=1, per_second=10)

    async def play():
        async with camera.watch() as viewer:
            assert await viewer.next() == StreamEnd("failed", "no such device")
        assert not camera.running

    asyncio.run(play())


def test_the_period_is_kept(engine, folder):
    camera = Camera(lambda: frames(f"folder:{folder}"), engine, viewers=1, per_second=20)

    async def play():
        started, found = time.monotonic(), None
        async with camera.watch() as viewer:
            while not isinstance(found, StreamEnd):
                found = await viewer.next()
        assert time.monotonic() - started > (COUNT - 1) / 20
        await camera.close()

    asyncio.run(play())


def test_large_frames_are_shown_smaller(engine):
    pixels = np.zeros((1080, 1920, 3), np.uint8)
    frame = ClassifiedFrame(1, *engine.classify_frame(Frame(0, "black", pixels)))
    assert Image.open(io.BytesIO(frame.jpeg())).size == (cameras.VIEW_SIDE, 450)
    assert frame.jpeg() is frame.jpeg()
