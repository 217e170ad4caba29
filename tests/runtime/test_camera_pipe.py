"""Frames through pipes, and `run --camera`."""

import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import runtime_models as models
from cli_run import run
from made_frames import HEIGHT, LONG, WIDTH, assert_colour, ends_when, jpeg, plain, write_all, write_video
from PIL import Image

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime import Classifier
from mbn_deploy.runtime.camera import SOURCES, FrameSource, LatestFrames
from mbn_deploy.runtime.cameras.pipe import JPEG_LIMIT, JpegSplitter, open_pipe


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    opened = os.fdopen(writing, "wb", buffering=0)
    yield reading, opened
    opened.close()
    os.close(reading)


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
        with pytest.raises(InputError, match="stdin"):
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
        with pytest.raises(InputError, match="5 of a frame's 9216"):
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


def test_a_live_source_that_ends(pipe):
    write_all(pipe[1], jpeg(0))
    with LatestFrames(open_pipe(pipe[0], None)) as source:
        assert len(list(source)) <= 1


# --- the command


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "clip.avi")
    return tmp_path / "clip.avi"


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
        ([], 2, "--camera"),
        (["a.jpg", "--camera", "-"], 2, "--camera"),
        (["a.jpg", "--frames", "3"], 2, "--frames"),
        (["a.jpg", "--frame-size", "3x3"], 2, "--frame-size"),
        (["--camera", "-", "--frames", "0"], 2, "--frames"),
        (["--camera", "-", "--frame-size", "big"], 2, "'big'"),
        (["--camera", "web"], 2, "'web'"),
        (["--camera", "folder:/missing"], 3, "/missing"),
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


def test_the_help_says_every_source():
    result = run("run", "--help")
    words = " ".join(result.stdout.split())
    assert all(kind.usage in words for kind in SOURCES.values())
