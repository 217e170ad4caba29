"""Sources of frames: real video files, folders and pipes; picamera2 by a stand-in, no such camera is here."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
import runtime_models as models
from cli_run import run
from PIL import Image

from mbn_deploy.errors import InputError, MissingExtraError, UnknownNameError, UsageError
from mbn_deploy.runtime import Classifier, frames
from mbn_deploy.runtime.camera import SOURCES, FrameSource, LatestFrames, parse_size
from mbn_deploy.runtime.cameras import picamera2 as picamera2_module
from mbn_deploy.runtime.cameras.pipe import JPEG_LIMIT, JpegSplitter, open_pipe

LONG = 30  # seconds until a test that hangs is a failure
WIDTH, HEIGHT = 64, 48


def colour(index):
    """A colour whose channels cannot be mixed up: red leads, green tells the index."""
    return np.array([200, 10 * index, 30], np.uint8)


def plain(index):
    return np.broadcast_to(colour(index), (HEIGHT, WIDTH, 3)).copy()


def jpeg(index, **options):
    buffer = io.BytesIO()
    Image.fromarray(plain(index)).save(buffer, "JPEG", quality=95, subsampling=0, **options)
    return buffer.getvalue()


def assert_colour(pixels, index, tolerance=3):
    """JPEG at quality 95 and MJPG video round colours by at most three levels, ever in flat areas."""
    assert pixels.dtype == np.uint8
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(pixels.mean((0, 1)), colour(index), atol=tolerance)


# --- choosing


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/dev/video0", "did you mean v4l2:/dev/videoN"),
        ("webcam", "known: picamera2"),
        ("", "known: picamera2"),
        ("v4l2", "it is written v4l2:/dev/videoN"),
        ("video:", "it is written video:FILE"),
        ("folder", "it is written folder:DIR"),
        ("picamera2:", "it is written picamera2"),
        ("picamera2:front", "it is written picamera2"),
        ("-:x", "it is written -"),
        ("latest:file", "it is written latest:-"),
    ],
)
def test_texts_that_name_no_source(text, said):
    with pytest.raises(UsageError, match=said.replace("[", r"\[")):
        frames(text)
    if "known" in said or "mean" in said:
        with pytest.raises(UnknownNameError):
            frames(text)


def test_every_source_says_whether_it_drops_frames():
    assert {name for name, kind in SOURCES.items() if kind.live} == {"picamera2", "v4l2", "latest"}


@pytest.mark.parametrize("source", ["video:a.avi", "folder:a"])
def test_a_size_is_refused_where_it_would_do_nothing(source):
    with pytest.raises(UsageError, match="has its own"):
        frames(source, size=(64, 48))


@pytest.mark.parametrize("size", [(0, 48), (2**15, 2**15)])
def test_sizes_that_no_frame_has(size):
    with pytest.raises(UsageError, match="pixels"):
        frames("-", size=size)


def test_sizes_as_text():
    assert parse_size("640x480") == (640, 480)
    for text in ("640", "x", "640x", "640x480x3", "-1x5", "640 x 480"):
        with pytest.raises(UsageError, match="WIDTHxHEIGHT"):
            parse_size(text)


# --- folders


def test_a_folder_in_the_order_of_names(tmp_path):
    for index in (2, 0, 1):
        (tmp_path / f"frame_{index:04}.jpg").write_bytes(jpeg(index))
    (tmp_path / ".hidden.jpg").write_bytes(jpeg(9))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").write_bytes(jpeg(9))
    with frames(f"folder:{tmp_path}") as source:
        assert not source.live
        found = list(source)
    assert [frame.name for frame in found] == [str(tmp_path / f"frame_{i:04}.jpg") for i in range(3)]
    assert [frame.index for frame in found] == [0, 1, 2]
    for index, frame in enumerate(found):
        assert_colour(frame.rgb(), index)


def test_frames_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.fromarray(plain(0)).save(tmp_path / "a.jpg", exif=exif)
    assert next(frames(f"folder:{tmp_path}")).rgb().shape == (WIDTH, HEIGHT, 3)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        frames(f"folder:{tmp_path}/missing")
    with pytest.raises(InputError, match="no images"):
        frames(f"folder:{tmp_path}")
    (tmp_path / "a.jpg").write_bytes(b"damaged")
    with pytest.raises(InputError, match="not a folder"):
        frames(f"folder:{tmp_path}/a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg"):
        next(frames(f"folder:{tmp_path}")).rgb()


# --- OpenCV


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for index in range(10):
        writer.write(cv2.cvtColor(plain(index), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def test_a_video_gives_every_frame_in_rgb(video):
    with frames(f"video:{video}") as source:
        assert not source.live
        found = list(source)
        assert list(source) == []
    assert [frame.name for frame in found] == [f"{video} #{index}" for index in range(10)]
    for index, frame in enumerate(found):
        assert_colour(frame.image, index)
        assert frame.rgb() is frame.image
        assert frame.image.flags.c_contiguous


def test_videos_that_are_none(tmp_path, capfd):
    with pytest.raises(InputError, match="no such file"):
        frames(f"video:{tmp_path}/missing.mp4")
    with pytest.raises(InputError, match="a folder, not a video"):
        frames(f"video:{tmp_path}")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"text\.mp4: not a video"):
        frames(f"video:{tmp_path}/text.mp4")
    assert "WARN" not in capfd.readouterr().err


def test_a_video_without_frames(video):
    data = video.read_bytes()
    start = data.index(b"movi")
    video.write_bytes(data[: start + 4])  # the header alone
    with pytest.raises(InputError, match="clip"):
        next(frames(f"video:{video}"))


def test_devices_that_are_none(tmp_path):
    with pytest.raises(InputError, match=r"no such device.*plugged in"):
        frames(f"v4l2:{tmp_path}/video9")
    with pytest.raises(InputError, match="group 'video'"):
        frames("v4l2:/dev/null")


def test_a_device_that_stops_says_what_to_do():
    """Devices are read as files are, by `grab` and `retrieve`; one that is unplugged fails in `grab`."""
    from mbn_deploy.runtime.cameras.opencv import CaptureFeed

    capture = SimpleNamespace(
        left=[plain(0)] * 3, grab=lambda: bool(capture.left), retrieve=lambda: (True, capture.left.pop()),
        release=lambda: None,
    )  # fmt: skip
    source = FrameSource(CaptureFeed(capture, "v4l2:/dev/video0", "is it still plugged in?"), live=True)
    for _ in range(3):
        next(source)
    with pytest.raises(InputError, match="v4l2:/dev/video0: is it still plugged in"):
        next(source)
    assert list(source) == []


def test_without_opencv_the_install_line_is_said(monkeypatch, video):
    monkeypatch.setitem(sys.modules, "cv2", None)
    for source in (f"video:{video}", "v4l2:/dev/video0"):
        with pytest.raises(MissingExtraError, match=r"pip install 'mbn-deploy\[camera\]'"):
            frames(source)


# --- picamera2: no camera and no such package here. The stand-in has the documented calls, and its arrays lie in
# memory as the manual says (appendix A): "RGB888" as B, G, R and "BGR888" as R, G, B.


class StandIn:
    """What the feed uses of `picamera2.Picamera2`; `hang` makes no frame come."""

    opened = None
    cameras, hang, busy = 1, False, False

    def __init__(self, camera_num=0):
        if StandIn.busy:
            raise RuntimeError("Failed to acquire camera: Device or resource busy")
        StandIn.opened = self
        self.number, self.count, self.state = camera_num, 0, "opened"

    @staticmethod
    def global_camera_info():
        return [{"Num": number} for number in range(StandIn.cameras)]

    def create_video_configuration(self, main=None, *, queue=True, **_rest):
        return {"main": {"size": (1280, 720), "format": "XBGR8888", **(main or {})}, "queue": queue}

    def configure(self, config):
        self.config = config

    def start(self):
        self.state = "started"

    def capture_array(self, name="main", wait=None):
        assert (name, wait, self.state) == ("main", False, "started")
        job = SimpleNamespace(future=Future())
        job.get_result = lambda timeout=None: job.future.result(timeout=timeout)
        if not StandIn.hang:
            width, height = self.config["main"]["size"]
            order = {"RGB888": [2, 1, 0], "BGR888": [0, 1, 2]}[self.config["main"]["format"]]
            job.future.set_result(np.broadcast_to(colour(self.count)[order], (height, width, 3)).copy())
            self.count += 1
        return job

    def close(self):
        self.state = "closed"


@pytest.fixture
def stand_in(monkeypatch):
    module = ModuleType("picamera2")
    module.Picamera2 = StandIn
    monkeypatch.setitem(sys.modules, "picamera2", module)
    for name in ("hang", "busy", "opened"):
        monkeypatch.setattr(StandIn, name, None)
    return StandIn


def test_picamera2_frames_are_rgb_and_the_newest(stand_in):
    with frames("picamera2", size=(WIDTH, HEIGHT)) as source:
        assert source.live
        for index in range(3):
            frame = next(source)
            assert_colour(frame.image, index, tolerance=0)
            assert frame.name == f"picamera2:0 #{index}"
    assert stand_in.opened.config["queue"] is False  # no frame waits there and grows old
    assert stand_in.opened.state == "closed"


def test_picamera2_has_a_size_of_its_own(stand_in):
    with frames("picamera2:0") as source:
        assert next(source).image.shape == (480, 640, 3)


def test_picamera2_without_a_camera_or_with_one_in_use(stand_in, monkeypatch):
    with pytest.raises(InputError, match=r"picamera2:1: 1 camera\(s\) found"):
        frames("picamera2:1")
    monkeypatch.setattr(stand_in, "busy", True)
    with pytest.raises(InputError, match="another program"):
        frames("picamera2:0")


def test_picamera2_that_hangs(stand_in, monkeypatch):
    monkeypatch.setattr(stand_in, "hang", True)
    monkeypatch.setattr(picamera2_module, "SILENCE", 0.1)
    with frames("picamera2") as source, pytest.raises(InputError, match="cable"):
        next(source)


def test_picamera2_can_be_closed_while_it_waits(stand_in, monkeypatch):
    monkeypatch.setattr(stand_in, "hang", True)
    source = frames("picamera2")
    assert ends_when(source.close, lambda: list(source)) == []
    assert stand_in.opened.state == "closed"


def test_without_picamera2_the_install_line_is_said():
    with pytest.raises(MissingExtraError, match=r"sudo apt install python3-picamera2.*--system-site-packages"):
        frames("picamera2")


def ends_when(action, waits):
    """What `waits` returns in a thread of its own, after `action` was done while it waited."""
    results = []
    thread = threading.Thread(target=lambda: results.append(waits()), daemon=True)
    thread.start()
    time.sleep(0.1)
    assert not results
    action()
    thread.join(LONG)
    return results[0]


# --- pipes


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    opened = os.fdopen(writing, "wb", buffering=0)
    yield reading, opened
    opened.close()
    os.close(reading)


def write_all(file, data, sizes=(1000,)):
    def write():
        at = 0
        for turn in range(sys.maxsize):
            part = data[at : at + sizes[turn % len(sizes)]]
            if not part:
                break
            file.write(part)
            at += len(part)
        file.close()

    threading.Thread(target=write, daemon=True).start()


@pytest.mark.parametrize("sizes", [(1,), (7, 100), (10**6,)])
@pytest.mark.parametrize("between", [b"", b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n", b"\xff\x00\xff"])
def test_jpegs_are_cut_where_they_end(pipe, sizes, between):
    thumbnail = Image.Exif()
    thumbnail[0x010E] = b"\xff\xd8\xff\xd9".decode("latin-1") * 10  # an end that is none, inside a segment
    pictures = [jpeg(0), jpeg(1, progressive=True), jpeg(2, exif=thumbnail), jpeg(3, restart_marker_blocks=1)]
    write_all(pipe[1], b"".join(between + picture for picture in pictures), sizes)
    with FrameSource(open_pipe(pipe[0], None)) as source:
        found = list(source)
    assert [frame.image for frame in found] == pictures
    assert [frame.name for frame in found] == [f"stdin #{index}" for index in range(4)]
    for index, frame in enumerate(found):
        assert_colour(frame.rgb(), index)


def test_a_picture_that_another_one_interrupts_is_skipped(pipe):
    write_all(pipe[1], jpeg(0) + jpeg(1)[:500] + jpeg(2) + jpeg(3)[:100] + b"\0" * 50 + jpeg(4))
    with FrameSource(open_pipe(pipe[0], None)) as source:
        assert [frame.image for frame in source] == [jpeg(0), jpeg(2), jpeg(4)]


@pytest.mark.parametrize("cut", [3, 10, 300, -1])
def test_a_stream_that_ends_inside_a_picture(pipe, cut):
    write_all(pipe[1], jpeg(0) + jpeg(1)[:cut])
    with FrameSource(open_pipe(pipe[0], None)) as source:
        assert next(source).image == jpeg(0)
        with pytest.raises(InputError, match="ends inside a picture"):
            next(source)


@pytest.mark.parametrize("begin", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\2\xff\xda\0\2"])
@pytest.mark.parametrize("fill", [b"x", b"\xff"])
def test_what_is_no_mjpeg_is_not_read_forever(begin, fill):
    splitter = JpegSplitter()

    def read():
        splitter.add(begin)
        for _ in range(JPEG_LIMIT // 2**20 + 1):
            assert splitter.take() is None
            splitter.add(fill * 2**20)

    with pytest.raises(InputError, match="--frame-size"):
        read()


@pytest.mark.parametrize("seed", range(5))
def test_damage_never_breaks_the_cutting(seed):
    rng = np.random.default_rng(seed)
    data = bytearray(b"".join(jpeg(index) for index in range(10)))
    for place in rng.integers(0, len(data), 60):
        data[place] = rng.choice([0, 0xFF, 0xD8, 0xD9, 0xDA, int(rng.integers(256))])
    splitter = JpegSplitter()
    splitter.add(bytes(data))
    while (found := splitter.take()) is not None:
        assert found.startswith(b"\xff\xd8")
        assert found.endswith(b"\xff\xd9")


def test_raw_frames(pipe):
    write_all(pipe[1], b"".join(plain(index).tobytes() for index in range(5)), (997,))
    with FrameSource(open_pipe(pipe[0], (WIDTH, HEIGHT))) as source:
        found = list(source)
    for index, frame in enumerate(found):
        assert_colour(frame.image, index, tolerance=0)
    assert len(found) == 5


def test_raw_frames_that_end_too_early(pipe):
    write_all(pipe[1], plain(0).tobytes() + b"12345")
    with FrameSource(open_pipe(pipe[0], (WIDTH, HEIGHT))) as source:
        next(source)
        with pytest.raises(InputError, match="ends after 5 of a frame's 9216 bytes"):
            next(source)


@pytest.mark.parametrize("size", [None, (WIDTH, HEIGHT)])
@pytest.mark.parametrize("kind", [FrameSource, LatestFrames])
def test_a_pipe_that_says_nothing_can_be_closed(pipe, size, kind):
    source = kind(open_pipe(pipe[0], size))
    assert ends_when(source.close, lambda: list(source)) == []
    source.close()


def test_a_terminal_is_no_pipe():
    master, slave = os.openpty()
    with pytest.raises(UsageError, match="terminal"):
        open_pipe(slave, None)
    os.close(master)
    os.close(slave)


# --- the newest frame


class Clock:
    """A feed that has a frame whenever it is told: what a camera does by itself."""

    name = "clock"

    def __init__(self):
        self.go, self.grabbed, self.retrieved, self.woken, self.released = threading.Semaphore(0), 0, [], False, False

    def tick(self, count=1):
        before = self.grabbed
        self.go.release(count)
        until = time.monotonic() + LONG
        while self.grabbed < before + count and time.monotonic() < until:
            time.sleep(0.001)

    def grab(self):
        self.go.acquire()
        self.grabbed += 1
        return not self.woken

    def retrieve(self):
        self.retrieved.append(self.grabbed)
        return plain(self.grabbed % 20)

    def wake(self):
        self.woken = True
        self.go.release()

    def release(self):
        self.released = True


def test_frames_that_nobody_asked_for_are_dropped_undecoded():
    clock = Clock()
    with LatestFrames(clock) as source:
        assert source.live
        clock.tick(5)
        assert clock.retrieved == []
        frame = ends_when(clock.tick, lambda: next(source))
        assert_colour(frame.image, 6)  # what came after it was asked for
        clock.tick(3)
        assert_colour(ends_when(clock.tick, lambda: next(source)).image, 10)
        assert clock.retrieved == [6, 10]
    assert clock.released


def test_errors_of_a_camera_reach_who_asks():
    class Broken(Clock):
        def grab(self):
            super().grab()
            raise InputError("unplugged")

    clock = Broken()
    source = LatestFrames(clock)
    clock.tick()
    with pytest.raises(InputError, match="unplugged"):
        next(source)
    assert list(source) == []
    source.close()
    assert clock.released


def test_a_live_source_that_ends(pipe):
    write_all(pipe[1], jpeg(0))
    with LatestFrames(open_pipe(pipe[0], None)) as source:
        assert len(list(source)) <= 1


def test_a_camera_is_not_read_far_ahead(tmp_path):
    """While one answer is looked at, at most one frame is in work and one asked for: answers do not grow old."""
    (tmp_path / "m.tflite").write_bytes(models.int8_tflite())

    class Free(Clock):
        def grab(self):
            time.sleep(0.001)
            self.grabbed += 1
            return not self.woken

    clock = Free()
    with Classifier.open(tmp_path / "m.tflite", threads=1) as classifier:
        stream = classifier.classify_stream(LatestFrames(clock), workers=4)
        for _ in range(3):
            next(stream)
            time.sleep(0.2)
            assert clock.grabbed > clock.retrieved[-1] + 10
        assert len(clock.retrieved) <= 3 + 1
        stream.close()
    assert clock.released


# --- the command


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(models.int8_tflite())
    return path


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_run_on_a_video(model, video):
    result = run("run", model, "--camera", f"video:{video}", "--json", "--top-k", 2)
    assert result.exit_code == 0, result.stderr
    found = lines(result.stdout)
    assert [entry["frame"] for entry in found] == list(range(10))
    assert [entry["name"] for entry in found] == [f"{video} #{index}" for index in range(10)]
    assert all(len(entry["predictions"]) == 2 for entry in found)
    assert "every frame" in result.stderr
    few = run("run", model, "--camera", f"video:{video}", "--frames", 3)
    assert few.stdout.count(f"{video} #") == 3


def test_run_names_bad_frames_and_goes_on(model, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, data in (("a.jpg", jpeg(0)), ("b.jpg", b"damaged"), ("c.jpg", jpeg(2))):
        (folder / name).write_bytes(data)
    result = run("run", model, "--camera", f"folder:{folder}", "--json")
    assert result.exit_code == 3
    assert [sorted(entry) for entry in lines(result.stdout)] == [
        ["frame", "name", "predictions"], ["error", "frame", "name"], ["frame", "name", "predictions"],
    ]  # fmt: skip
    assert "b.jpg" in result.stderr


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ([], 2, "either image files or --camera"),
        (["a.jpg", "--camera", "-"], 2, "not both"),
        (["a.jpg", "--frames", "3"], 2, "belong to --camera"),
        (["a.jpg", "--frame-size", "3x3"], 2, "belong to --camera"),
        (["--camera", "-", "--frames", "0"], 2, "at least 1"),
        (["--camera", "-", "--frame-size", "big"], 2, "WIDTHxHEIGHT"),
        (["--camera", "web"], 2, "unknown source"),
        (["--camera", "folder:/missing"], 3, "no such folder"),
        (["--camera", "picamera2"], 4, "sudo apt install python3-picamera2"),
    ],
)
def test_wrong_use(model, args, code, said):
    result = run("run", model, *args)
    assert result.exit_code == code, result.stderr
    assert said in result.stderr


def command(model, *args):
    return subprocess.Popen(
        [sys.executable, "-c", "from mbn_deploy.cli.main import main; main()", "run", str(model), *args],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_answers_come_while_the_pipe_is_open_and_ctrl_c_ends_it(model):
    with command(model, "--camera", "-", "--json") as process:
        for index in range(3):
            process.stdin.write(jpeg(index))
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["frame"] == index
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == 130
        assert process.stdout.read() == b""
        err = process.stderr.read()
    assert b"interrupted" in err


def test_raw_frames_through_a_real_pipe(model):
    with command(model, "--camera", "-", "--json", "--frame-size", f"{WIDTH}x{HEIGHT}") as process:
        out, err = process.communicate(b"".join(plain(index).tobytes() for index in range(20)), timeout=LONG)
    assert process.returncode == 0, err
    expected = Classifier.open(model, threads=1)
    for index, entry in enumerate(lines(out.decode())):
        assert entry["predictions"][0]["index"] == expected.classify(plain(index))[0].index
    assert index == 19


def test_a_reader_that_goes_away_ends_it(model):
    process = command(model, "--camera", "latest:-", "--json")
    stop = threading.Event()

    def write():
        try:
            while not stop.is_set():
                process.stdin.write(jpeg(1))
        except (BrokenPipeError, ValueError):
            pass

    threading.Thread(target=write, daemon=True).start()
    assert json.loads(process.stdout.readline())["frame"] == 0
    process.stdout.close()
    assert process.wait(LONG) == 141
    stop.set()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    with pytest.raises(BrokenPipeError):
        process.stdin.close()


def test_the_module_says_every_source(model):
    result = run("run", "--help")
    words = " ".join(result.stdout.split())
    assert all(kind.usage in words for kind in SOURCES.values())
    assert Path(model).exists()
