"""`Classifier.classify_stream`: order, errors at their place, back-pressure, and that nothing is left running."""

import io
import itertools
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import runtime_models as models
from patience import wait_until
from PIL import Image

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime import Classifier, ClassifierPool, Frame
from mbn_deploy.runtime.stream import Lookahead

PIXELS = models.pictures(40)
LONG = 30  # seconds until a test that hangs is a failure


def streams():
    return [t for t in threading.enumerate() if t.name.startswith("stream-")]


def ended():
    """Whether all threads of streams ended, soon."""
    return wait_until(lambda: not streams(), LONG)


def jpeg(pixels, size=(64, 48)):
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(params=["litert", "onnx", "pool", "batch of 4"])
def classifier(request, tmp_path):
    made = {"onnx": models.int8_onnx, "batch of 4": lambda: models.float_tflite(batch=4)}
    path = tmp_path / ("m.onnx" if request.param == "onnx" else "m.tflite")
    path.write_bytes(made.get(request.param, models.int8_tflite)())
    if request.param == "pool":
        opened = ClassifierPool.open(path, size=3, threads=1)
    else:
        opened = Classifier.open(path, threads=1)
    with opened:
        yield opened
    assert ended()


@pytest.fixture
def simple(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(models.int8_tflite())
    with Classifier.open(path, threads=1) as opened:
        yield opened


class Counted:
    """An endless source that says how many frames were taken and whether it was closed."""

    def __init__(self, frames=PIXELS):
        self._frames, self.taken, self.closed = itertools.cycle(frames), 0, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.taken += 1
        return next(self._frames)

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("ahead", [1, 4, 100])
def test_answers_are_those_of_classify_in_order(classifier, workers, ahead):
    frames = [*PIXELS, *map(jpeg, PIXELS[:5])]
    results = list(classifier.classify_stream(frames, 3, workers=workers, ahead=ahead))
    assert [r.predictions for r in results] == [classifier.classify(frame, 3) for frame in frames]
    assert [r.index for r in results] == list(range(len(frames)))
    assert all(result.source is frame for result, frame in zip(results, frames, strict=True))


def test_sources_of_every_kind_and_frames(simple, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS[0]).save(path)
    sources = [str(path), path, path.read_bytes(), io.BytesIO(path.read_bytes()), Image.open(path), PIXELS[0]]
    sources += [Frame(0, "a", PIXELS[0]), Frame(1, str(path), str(path))]
    answers = {str(r.predictions) for r in simple.classify_stream(sources)}
    assert len(answers) == 1


def test_an_empty_stream(simple):
    assert list(simple.classify_stream([])) == []
    assert list(simple.classify_stream(iter(()))) == []


def test_a_bad_frame_is_raised_at_its_place(classifier):
    stream = classifier.classify_stream([*PIXELS[:7], b"no picture", *PIXELS], ahead=4)
    assert [next(stream).index for _ in range(7)] == list(range(7))
    with pytest.raises(InputError, match="10 bytes"):
        next(stream)
    assert ended()


def test_bad_frames_as_values(classifier):
    frames = [PIXELS[0], b"no picture", PIXELS[1], Frame(3, "camera #3", b"\xff\xd8\xff"), "missing.jpg", PIXELS[2]]
    results = list(classifier.classify_stream(frames, on_error="yield"))
    assert [r.error is None for r in results] == [True, False, True, False, False, True]
    assert [bool(r.predictions) for r in results] == [True, False, True, False, False, True]
    assert str(results[3].error).startswith("camera #3: ")
    assert str(results[4].error).startswith("missing.jpg: ")


def test_errors_of_the_source_end_the_stream_after_the_frames_before(classifier):
    def source():
        yield from PIXELS[:3]
        raise OSError("unplugged")

    stream = classifier.classify_stream(source(), on_error="yield")
    assert [next(stream).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="unplugged"):
        next(stream)


def test_something_that_is_no_picture_is_a_mistake_whatever_is_done_with_bad_frames(simple):
    with pytest.raises(UsageError, match="int object"):
        list(simple.classify_stream([PIXELS[0], 7], on_error="yield"))


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"top_k": 0}, "top_k"),
        ({"on_error": "ignore"}, "on_error"),
        ({"workers": 0}, "workers"),
        ({"ahead": 0}, "ahead"),
    ],
)
def test_wrong_options_are_found_at_once(classifier, options, option):
    with pytest.raises(UsageError, match=option):
        classifier.classify_stream(PIXELS, **options)


@pytest.mark.parametrize(
    ("one", "name"), [("photos", "photos"), (b"x", "1 bytes"), (Image.fromarray(PIXELS[0]), "Image")]
)
def test_one_picture_is_no_stream(simple, one, name):
    with pytest.raises(UsageError, match=name):
        simple.classify_stream(one)


@pytest.mark.parametrize("ahead", [1, 3, 8])
def test_a_slow_reader_makes_the_source_wait(classifier, ahead):
    source = Counted()
    stream = classifier.classify_stream(source, workers=4, ahead=ahead)
    assert source.taken == 0  # nothing starts before the first answer is asked for
    for answered in range(1, 6):
        next(stream)
        time.sleep(0.05)  # as much as the threads could do now, they must not
        assert source.taken <= answered + ahead
    stream.close()
    assert source.closed == 1
    assert source.taken <= 5 + ahead


@pytest.mark.parametrize("how", ["close", "forget", "break", "raise"])
def test_a_stream_that_is_left_ends_its_threads_and_closes_its_source(simple, how):
    source = Counted()
    if how == "close":
        stream = simple.classify_stream(source)
        next(stream)
        stream.close()
        with pytest.raises(StopIteration):
            next(stream)
    elif how == "forget":
        stream = simple.classify_stream(source)
        next(stream)
        del stream
    elif how == "break":
        for _ in simple.classify_stream(source):
            break
    else:
        with pytest.raises(ZeroDivisionError):
            _raise_in(simple.classify_stream(source))
    assert ended()
    assert source.closed == 1


def _raise_in(stream):
    for _ in stream:
        raise ZeroDivisionError


def test_a_generator_is_closed_even_if_it_ends_by_itself(simple):
    events = []

    def source():
        try:
            yield from PIXELS[:2]
        finally:
            events.append("closed")

    assert len(list(simple.classify_stream(source()))) == 2
    for _ in simple.classify_stream(source()):
        break
    assert ended()
    assert events == ["closed", "closed"]


def test_a_source_that_hangs_does_not_hold_up_the_end(simple):
    let_go, closed = threading.Event(), threading.Event()

    def source():
        try:
            yield PIXELS[0]
            let_go.wait(LONG)
            yield PIXELS[1]
        finally:
            closed.set()

    stream = simple.classify_stream(source())
    next(stream)
    stream.close()  # waits for a while, then leaves the thread to itself
    assert not closed.is_set()
    let_go.set()
    assert ended()
    assert closed.wait(LONG)


def test_closing_the_classifier_ends_the_stream_with_an_error(classifier):
    stream = classifier.classify_stream(Counted())
    next(stream)
    classifier.close()
    with pytest.raises(UsageError, match="closed"):
        list(itertools.islice(stream, 100))


def test_work_goes_on_while_the_reader_has_an_answer():
    begun = [threading.Event() for _ in range(10)]
    lookahead = Lookahead(range(10), lambda item: begun[item].set() or item, workers=1, ahead=1)
    for item in lookahead:
        assert begun[min(item + 1, 9)].wait(LONG)
    lookahead.stop()


def test_workers_work_side_by_side():
    both = threading.Barrier(2, timeout=LONG)
    lookahead = Lookahead(range(10), lambda _: both.wait() >= 0, workers=2, ahead=2)
    assert list(lookahead) == [True] * 10
    lookahead.stop()


def test_ctrl_c_and_leaving_without_closing(tmp_path):
    """In a process of its own: SIGINT in the middle, then an end of the program with an open stream."""
    (tmp_path / "m.tflite").write_bytes(models.int8_tflite())
    program = (
        "import itertools, os, signal, threading\nimport numpy as np\n"
        "from mbn_deploy.runtime import Classifier\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"classifier = Classifier.open({str(tmp_path / 'm.tflite')!r}, threads=1)\n"
        "pixels = np.zeros((*classifier.info.size, 3), np.uint8)\n"
        "def source():\n    yield pixels\n    os.kill(os.getpid(), signal.SIGINT)\n    threading.Event().wait()\n"
        "try:\n    for result in classifier.classify_stream(source()): pass\n"
        "except KeyboardInterrupt: print('interrupted')\n"
        "left = classifier.classify_stream(itertools.repeat(pixels))\nnext(left)\nprint('left')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\nleft\n"), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.shared
def test_answers_of_real_photographs(shared_photographs):
    model, photographs = shared_photographs
    with Classifier.open(model, resize="squash", threads=1) as classifier:
        expected = [classifier.classify(path) for path in photographs]
        assert [r.predictions for r in classifier.classify_stream(photographs)] == expected
    with ClassifierPool.open(model, resize="squash", size=3, threads=1) as pool:
        assert [r.predictions for r in pool.classify_stream(photographs)] == expected


@pytest.fixture
def shared_photographs():
    from pathlib import Path

    shared = Path(__file__).parents[3] / "shared"
    if not shared.is_dir():
        pytest.skip("no real models beside the checkout")
    photographs = sorted((shared / "imagenet/calibration").glob("*.jpg"))[:100]
    return shared / "models/published/mobilenet_v1_0.25_128_quant.tflite", photographs


def test_memory_is_bounded_by_ahead(simple):
    """Frames of 3 MB in an endless source: what is alive at once is `ahead`, the answer's and those in the threads."""
    alive, most = [0], [0]

    class Big(np.ndarray):
        def __del__(self):
            alive[0] -= 1

    def source():
        while True:
            frame = np.zeros((1000, 1000, 3), np.uint8).view(Big)
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            yield frame
            del frame

    stream = simple.classify_stream(source(), workers=2, ahead=3)
    for _ in range(60):
        next(stream)
    stream.close()
    assert ended()
    # ahead + 1 in the stream, one in the reader's hands, and one in each thread that was stopped before it let go.
    assert most[0] <= 3 + 1 + 1 + 2
