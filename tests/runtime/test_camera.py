"""Sources of frames: real folders and video files; picamera2 by a stand-in, no such camera is here."""

import sys
import threading
import time
from concurrent.futures import Future
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import runtime_models as models
from made_frames import HEIGHT, WIDTH, assert_colour, colour, ends_when, jpeg, plain, write_video
from patience import wait_until
from PIL import Image

from mbn_deploy.errors import InputError, MissingExtraError, UnknownNameError, UsageError
from mbn_deploy.runtime import Classifier, frames
from mbn_deploy.runtime.camera import SOURCES, FrameSource, LatestFrames, parse_size
from mbn_deploy.runtime.cameras import picamera2 as picamera2_module

# --- choosing


@pytest.mark.parametrize(
    ("text", "kind", "usage"),
    [
        ("/dev/video0", UnknownNameError, "v4l2:/dev/videoN"),
        ("webcam", UnknownNameError, "picamera2"),
        ("", UnknownNameError, "picamera2"),
        ("v4l2", UsageError, "v4l2:/dev/videoN"),
        ("video:", UsageError, "video:FILE"),
        ("folder", UsageError, "folder:DIR"),
        ("picamera2:", UsageError, "picamera2"),
        ("picamera2:front", UsageError, "picamera2"),
        ("-:x", UsageError, "-"),
        ("latest:file", UsageError, "latest:-"),
    ],
)
def test_texts_that_name_no_source(text, kind, usage):
    with pytest.raises(kind, match=usage) as caught:
        frames(text)
    assert type(caught.value) is kind


def test_every_source_says_whether_it_drops_frames():
    assert {name for name, kind in SOURCES.items() if kind.live} == {"picamera2", "v4l2", "latest"}


@pytest.mark.parametrize("source", ["video:a.avi", "folder:a"])
def test_a_size_is_refused_where_it_would_do_nothing(source):
    with pytest.raises(UsageError, match=source):
        frames(source, size=(64, 48))


@pytest.mark.parametrize("size", [(0, 48), (2**15, 2**15)])
def test_sizes_that_no_frame_has(size):
    with pytest.raises(UsageError, match=f"{size[0]} × {size[1]}"):
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


def test_what_counts_as_a_frame(tmp_path):
    """The same files as where pictures are evaluated; a folder is none, whatever it is called."""
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.GIF")
    (tmp_path / "b.jpg").mkdir()
    (tmp_path / "c.txt").write_text("no picture")
    with frames(f"folder:{tmp_path}") as source:
        assert [frame.name for frame in source] == [str(tmp_path / "a.GIF")]


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match="missing"):
        frames(f"folder:{tmp_path}/missing")
    with pytest.raises(InputError, match=str(tmp_path)):
        frames(f"folder:{tmp_path}")
    (tmp_path / "a.jpg").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"a\.jpg"):
        frames(f"folder:{tmp_path}/a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg"):
        next(frames(f"folder:{tmp_path}")).rgb()


# --- OpenCV


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "clip.avi")
    return tmp_path / "clip.avi"


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
    with pytest.raises(InputError, match=r"missing\.mp4"):
        frames(f"video:{tmp_path}/missing.mp4")
    with pytest.raises(InputError, match=str(tmp_path)):
        frames(f"video:{tmp_path}")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"text\.mp4"):
        frames(f"video:{tmp_path}/text.mp4")
    assert "WARN" not in capfd.readouterr().err


def test_a_video_without_frames(video):
    data = video.read_bytes()
    start = data.index(b"movi")
    video.write_bytes(data[: start + 4])  # the header alone
    with pytest.raises(InputError, match="clip"):
        next(frames(f"video:{video}"))


def test_devices_that_are_none(tmp_path):
    with pytest.raises(InputError, match="video9"):
        frames(f"v4l2:{tmp_path}/video9")
    with pytest.raises(InputError, match="/dev/null"):
        frames("v4l2:/dev/null")


def test_a_device_that_stops_says_what_to_do():
    """Devices are read as files are, by `grab` and `retrieve`; one that is unplugged fails in `grab`."""
    from mbn_deploy.runtime.cameras.opencv import CaptureFeed

    capture = SimpleNamespace(
        left=[plain(0)] * 3, grab=lambda: bool(capture.left), retrieve=lambda: (True, capture.left.pop()),
        release=lambda: None,
    )  # fmt: skip
    source = FrameSource(CaptureFeed(capture, "v4l2:/dev/video0", "unplugged"), live=True)
    for _ in range(3):
        next(source)
    with pytest.raises(InputError, match="v4l2:/dev/video0: unplugged"):
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
    with pytest.raises(InputError, match="picamera2:1"):
        frames("picamera2:1")
    monkeypatch.setattr(stand_in, "busy", True)
    with pytest.raises(InputError, match="picamera2:0"):
        frames("picamera2:0")


def test_picamera2_that_hangs(stand_in, monkeypatch):
    monkeypatch.setattr(stand_in, "hang", True)
    monkeypatch.setattr(picamera2_module, "SILENCE", 0.1)
    with frames("picamera2") as source, pytest.raises(InputError, match="picamera2:0"):
        next(source)


def test_picamera2_can_be_closed_while_it_waits(stand_in, monkeypatch):
    monkeypatch.setattr(stand_in, "hang", True)
    source = frames("picamera2")
    assert ends_when(source.close, lambda: list(source)) == []
    assert stand_in.opened.state == "closed"


def test_without_picamera2_the_install_line_is_said():
    with pytest.raises(MissingExtraError, match="sudo apt install python3-picamera2"):
        frames("picamera2")


# --- the newest frame


class Clock:
    """A feed that has a frame whenever it is told: what a camera does by itself."""

    name = "clock"

    def __init__(self):
        self.go, self.grabbed, self.retrieved, self.woken, self.released = threading.Semaphore(0), 0, [], False, False

    def tick(self, count=1):
        before = self.grabbed
        self.go.release(count)
        wait_until(lambda: self.grabbed >= before + count)

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
        first = ends_when(clock.tick, lambda: next(source))
        clock.tick(3)
        second = ends_when(clock.tick, lambda: next(source))
        numbers = clock.retrieved
        assert len(numbers) == 2
        assert numbers[0] > 5  # it came after it was asked for
        assert numbers[1] > numbers[0] + 3
        for frame, number in zip((first, second), numbers, strict=True):
            assert_colour(frame.image, number % 20)
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
            wait_until(lambda: clock.grabbed > clock.retrieved[-1] + 10)
        assert len(clock.retrieved) <= 3 + 1
        stream.close()
    assert clock.released
