"""A sweep on a real Dask cluster on loopback: a scheduler and two workers, one of them killed in the middle."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from importlib import resources
from pathlib import Path

import pytest
from cli_run import run

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.demo.networks import ALPHAS, weights_name
from mbn_deploy.errors import InputError
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.sweep import plan
from mbn_deploy.sweep.dask import dask_executor
from mbn_deploy.sweep.run import sweep

distributed = pytest.importorskip("distributed", reason="a cluster needs Dask: pip install '.[dask]'")
pytestmark = pytest.mark.slow

WAIT = 240  # seconds; a busy machine takes long to import TensorFlow


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def eventually(question, what):
    deadline = time.monotonic() + WAIT
    while not (answer := question()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return answer


class Cluster:
    """Processes of `dask scheduler` and `dask worker`, one thread each, without a nanny that starts them anew."""

    def __init__(self, folder, stack):
        self.folder, self.address = folder, f"tcp://127.0.0.1:{free_port()}"
        self._stack = stack
        self._start("scheduler", "--host", "127.0.0.1", "--port", self.address.rpartition(":")[2], "--no-dashboard")
        self.workers = [self.worker(name) for name in ("one", "two")]
        eventually(lambda: self._ready(2), "two workers")

    def worker(self, name):
        return self._start(
            "worker", self.address, "--name", name, "--nthreads", "1", "--no-nanny", "--no-dashboard",
            "--host", "127.0.0.1", "--local-directory", self.folder / name,
        )  # fmt: skip

    def _start(self, *words):
        log = self._stack.enter_context((self.folder / f"{words[0]}-{len(list(self.folder.iterdir()))}.log").open("w"))
        command = [sys.executable, "-m", "distributed.cli.dask_" + words[0], *map(str, words[1:])]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        child = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self._stack.callback(child.wait)
        self._stack.callback(child.kill)
        return child

    def _ready(self, count):
        try:
            with distributed.Client(self.address, timeout=2, set_as_default=False) as client:
                return len(client.scheduler_info(n_workers=-1)["workers"]) >= count
        except OSError:
            return False


@pytest.fixture
def cluster(tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    with ExitStack() as stack:
        yield Cluster(folder, stack)


def options(digits):
    return ExportOptions(
        precisions="float32,int8", formats="tflite", resize="squash", calibration_count=50,
        calibrate=digits / "calibration", evaluate=digits / "held-back", labels=digits / "labels.txt",
    )  # fmt: skip


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """The demo's three networks at two sizes: their weights fit any, and a file's name need not say one."""
    weights = tmp_path_factory.mktemp("weights")
    found = []
    for name, alpha in ALPHAS.items():
        trained = resources.files("mbn_deploy.demo") / weights_name(name)
        (weights / f"{name}_{alpha}.weights.h5").write_bytes(trained.read_bytes())
        found += plan.networks([name], [alpha], [32, 48], classes=10, weights=weights)
    return found


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def killed(cluster, question, what):
    """Kill one worker, so that it can clean up nothing, once `question` is answered; the thread that does it."""

    def kill():
        eventually(question, what)
        os.kill(cluster.workers[0].pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.fixture(scope="module")
def here(digits, variants, tmp_path_factory):
    """The same sweep in this process."""
    return sweep(variants, tmp_path_factory.mktemp("here") / "out", options(digits), latency=0, chunk=64)


@pytest.mark.parametrize("when", ["variants are made", "chunks are evaluated"])
def test_a_worker_is_killed_and_nothing_is_lost_nothing_twice_and_the_numbers_are_the_same(
    when, cluster, here, variants, digits
):
    out = cluster.folder.parent / "out"
    records = out / "records"
    steps = []

    def seen():
        if when == "variants are made":
            return len(list(records.glob("*.json"))) >= 1
        return any(step == "evaluate" and done >= 3 for step, done, _ in list(steps))

    thread = killed(cluster, seen, when)
    with dask_executor(cluster.address, _made(out)) as executor:
        found = sweep(
            variants, out, options(digits), executor=executor, latency=0, chunk=64,
            progress=lambda *step: steps.append(step),
        )  # fmt: skip
    thread.join()
    assert cluster.workers[0].wait(WAIT) == -signal.SIGKILL
    names = [variant.name for variant in variants]
    assert [record.name for record in found.records] == names
    assert [record.error for record in found.records if record.status != "done"] == []
    assert sorted(path.stem for path in records.glob("*.json")) == sorted(names)
    made = [step for step in steps if step[0] == "make variants"]
    chunks = [step for step in steps if step[0] == "evaluate"]
    assert [done for _, done, _ in made] == list(range(1, len(names) + 1))
    assert [done for _, done, _ in chunks] == list(range(1, chunks[-1][2] + 1))
    for name in names:
        Bundle.read(out / name)
        assert contents(out / name) == contents(here.folder / name)
    assert found.rows == here.rows


def _made(out):
    (out / "records").mkdir(parents=True)
    return out


def test_the_command_on_a_cluster(cluster, digits, tmp_path):
    command = [
        "sweep", "-o", tmp_path / "out", "--models", "mobilenet_v1", "--alphas", "0.2,0.3", "--sizes", 32, "--classes",
        10, "--weights", "none", "--formats", "tflite", "--precisions", "float32", "--seconds", 0, "--json",
    ]  # fmt: skip
    result = run(*command, "--dask", cluster.address)
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert (data["made"], len(data["rows"])) == (2, 2)
    assert json.loads(run(*command).stdout)["made"] == 0  # here, what the cluster made stands


def test_a_cluster_that_does_not_fit_is_refused(cluster, tmp_path):
    gone = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(InputError, match="no Dask scheduler answers"), dask_executor(gone, tmp_path, timeout="1s"):
        pass
    unseen = Path("/nowhere-at-all")
    with pytest.raises(InputError, match="does not see"), dask_executor(cluster.address, unseen):
        pass
    result = run("sweep", "-o", tmp_path / "o", "--models", "mobilenet_v1", "--precisions", "float32", "--dask", "x:y")
    assert result.exit_code == 3
    assert re.search("no Dask scheduler answers at x:y", result.stderr)
