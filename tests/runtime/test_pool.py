"""Many threads on one classifier and on a pool: every answer right, closing in the middle, and no growth."""

import gc
import threading
from pathlib import Path

import pytest
import runtime_models as models

from mbn_deploy.errors import UsageError
from mbn_deploy.runtime import Classifier, ClassifierPool, opening
from mbn_deploy.runtime.pool import share_processors

PIXELS = models.pictures(40)
THREADS = 16
LONG = 60  # seconds until a test that hangs is a failure


@pytest.fixture(params=["litert", "onnx"])
def path(request, tmp_path):
    path = tmp_path / ("m.onnx" if request.param == "onnx" else "m.tflite")
    path.write_bytes(models.int8_onnx() if request.param == "onnx" else models.int8_tflite())
    return path


@pytest.fixture(params=["classifier", "pool of 3", "pool of 16"])
def opened(request, path):
    if request.param == "classifier":
        with Classifier.open(path, threads=1) as classifier:
            yield classifier
    else:
        with ClassifierPool.open(path, size=int(request.param.split()[-1]), threads=1) as pool:
            yield pool


def in_threads(work, count=THREADS):
    """What `work(number)` returned or raised in each of so many threads that start at once."""
    start, outcomes = threading.Barrier(count), [None] * count

    def run(number):
        start.wait(LONG)
        try:
            outcomes[number] = work(number)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    return outcomes


def test_every_answer_of_sixteen_threads_is_right(opened, path):
    with Classifier.open(path, threads=1) as alone:
        expected = [alone.classify(image) for image in PIXELS]

    def work(number):
        order = [(number * 7 + turn) % len(PIXELS) for turn in range(200)]
        return [index for index in order if opened.classify(PIXELS[index]) != expected[index]]

    assert in_threads(work) == [[]] * THREADS


def test_every_way_of_asking_at_once(opened, path):
    with Classifier.open(path, threads=1) as alone:
        expected, scores = alone.classify_batch(PIXELS), alone.predict(PIXELS)
    ways = [
        lambda: opened.classify_batch(PIXELS) == expected,
        lambda: bool((opened.predict(PIXELS) == scores).all()),
        lambda: [r.predictions for r in opened.classify_stream(PIXELS)] == expected,
        lambda: [opened.classify(image) for image in PIXELS] == expected,
    ]
    assert in_threads(lambda number: ways[number % 4]()) == [True] * THREADS


def test_closing_while_others_classify(opened):
    """Each thread gets right answers, then `UsageError`; nothing crashes and nobody waits forever."""
    answered = threading.Semaphore(0)

    def work(number):
        if number == 0:
            for _ in range(50):
                answered.acquire(timeout=LONG)
            return opened.close()
        while True:
            opened.classify(PIXELS[number])
            answered.release()

    outcomes = in_threads(work)
    assert outcomes[0] is None
    assert {type(outcome) for outcome in outcomes[1:]} == {UsageError}
    opened.close()
    with pytest.raises(UsageError, match="closed"):
        opened.predict(PIXELS)


def test_closing_from_many_threads(opened):
    assert in_threads(lambda _: opened.close()) == [None] * THREADS


def test_a_failed_inference_gives_the_interpreter_back(path):
    with ClassifierPool.open(path, size=2, threads=1) as pool:
        for _ in range(10):
            with pytest.raises(UsageError, match="uint8"):
                pool.run_raw(PIXELS)
        assert pool.classify(PIXELS[0])


def test_inferences_of_a_pool_run_side_by_side(path, monkeypatch):
    """Interpreters that wait for each other: with fewer than three at once the barrier would break."""
    together, open_backend = threading.Barrier(3, timeout=LONG), opening.open_backend

    def open_waiting(*args, **options):
        backend = open_backend(*args, **options)
        backend.run = lambda tensor, run=backend.run: together.wait() >= 0 and run(tensor)
        return backend

    monkeypatch.setattr(opening, "open_backend", open_waiting)
    with ClassifierPool.open(path, size=3, threads=1) as pool:
        outcomes = in_threads(lambda number: pool.classify(PIXELS[number]), 3)
    assert all(isinstance(outcome, list) for outcome in outcomes), outcomes


def test_a_pool_says_what_it_is(path):
    with ClassifierPool.open(path, size=3, threads=1) as pool:
        assert (pool.size, pool.info.threads) == (3, 1)
        assert pool.labels == models.LABELS
    with ClassifierPool.open(path) as pool:
        assert pool.info.threads == 1


@pytest.mark.parametrize(
    ("processors", "size", "threads", "shares"),
    [
        (4, None, None, (4, 1)),
        (4, 2, None, (2, 2)),
        (4, None, 2, (2, 2)),
        (4, None, 8, (1, 8)),
        (4, 8, None, (8, 1)),
        (4, 3, 3, (3, 3)),
        (64, 2, None, (2, 4)),
        (1, None, None, (1, 1)),
    ],
)
def test_how_processors_are_shared(processors, size, threads, shares):
    assert share_processors(processors, size, threads) == shares


@pytest.mark.parametrize("options", [{"size": 0}, {"threads": 0}, {"size": -1, "threads": 2}])
def test_pools_of_nothing(path, options):
    with pytest.raises(UsageError, match=r"size|threads"):
        ClassifierPool.open(path, **options)


# --- memory. robustness/soak.py does the same for a hundred thousand inferences of a real model.


def resident():
    """Bytes of memory that this process really has (statm counts pages of 4096 bytes)."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux' /proc")


@needs_proc
def test_memory_does_not_grow_with_inferences(path):
    """A leak of one input (576 bytes) an inference would be 1.7 MB over 3,000.

    What an allocator takes once, for whatever reason, is no growth: a leak comes back with every 3,000.
    """
    growth = []
    with Classifier.open(path, threads=1) as classifier:
        for _ in range(3):
            before = resident()
            for turn in range(3000):
                classifier.classify(PIXELS[turn % len(PIXELS)])
            growth.append(resident() - before)
    assert min(growth) < 2**20


@needs_proc
def test_memory_does_not_grow_with_opening(path):
    """A hundred open ones take 13 MB (LiteRT) and 22 MB (onnxruntime): the bound is a quarter of that.

    What an allocator takes once, for whatever reason, is no growth: a leak comes back with every hundred.
    """
    growth = []
    for _ in range(4):
        before = resident()
        for _ in range(100):
            with Classifier.open(path, threads=1) as classifier:
                classifier.classify(PIXELS[0])
        growth.append(resident() - before)
    assert min(growth) < 3 * 2**20
