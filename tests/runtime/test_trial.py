"""A file that no manifest vouches for is tried in a child process before this process opens it."""

import copy
import sys

import child_functions
import numpy as np
import pytest
import runtime_models as models
from cli_run import run
from onnx import TensorProto, helper, numpy_helper
from tflite_files import I32, Op, T, written

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime import Classifier, ClassifierPool
from mbn_deploy.runtime.backends import trial
from mbn_deploy.runtime.backends.trial import TrialLimits, call_limited, limits_of, try_model
from mbn_deploy.runtime.system import child
from mbn_deploy.runtime.system.child import ChildProcess

unix = pytest.mark.skipif(sys.platform == "win32", reason="no bounds on memory there")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache folder, and a process that has tried nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(trial, "_passed", set())
    return tmp_path / "cache" / "mbn-deploy" / "trials.json"


@pytest.fixture
def started(monkeypatch):
    """The child processes that were started."""
    made = []
    start = ChildProcess.__init__
    monkeypatch.setattr(ChildProcess, "__init__", lambda self: made.append(self) or start(self))
    return made


@pytest.fixture(params=["tflite", "onnx"])
def lone(request, tmp_path):
    path = tmp_path / f"m.{request.param}"
    path.write_bytes(models.float_tflite() if request.param == "tflite" else models.float_onnx())
    return path


def onnx_of(nodes, *constants, shape=(1, 3, 8, 8)):
    """A classifier of four classes whose first nodes are `nodes`, from `x` to `y`."""
    tail = [
        helper.make_node("ReduceMax", ["y"], ["m"], keepdims=0),
        helper.make_node("Mul", ["m", "four"], ["v"]),
        helper.make_node("Softmax", ["v"], ["s"], axis=1),
    ]
    four = numpy_helper.from_array(np.ones((1, 4), np.float32), "four")
    graph = helper.make_graph(
        [*nodes, *tail],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("s", TensorProto.FLOAT, (1, 4))],
        [four, *(numpy_helper.from_array(np.array(value), name) for name, value in constants)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


GROWING = onnx_of(
    [helper.make_node("ReduceMax", ["x"], ["one"], keepdims=0), helper.make_node("Expand", ["one", "size"], ["y"])],
    ("size", [2**14, 2**15]),
)
ENDLESS = onnx_of(
    [
        helper.make_node("Resize", ["x", "", "", "size"], ["large"]),
        helper.make_node("MaxPool", ["large"], ["y"], kernel_shape=[701, 701], pads=[350] * 4),
    ],
    ("size", [1, 3, 1600, 1600]),
)


@unix
@pytest.mark.parametrize(("data", "limit"), [(GROWING, "memory"), (ENDLESS, "time")], ids=["memory", "time"])
def test_what_takes_too_much_is_refused(data, limit):
    """Both files have some hundred bytes."""
    limits = TrialLimits(memory=2**29, cpu_seconds=1)
    with pytest.raises(
        InputError, match=rf"m\.onnx: .*({'memory' if limit == 'memory' else '1 s of processor'}).*trust"
    ):
        try_model(data, "onnx", name="onnx", where="m.onnx", limits=limits)


@unix
def test_memory_is_bounded_by_what_the_file_claims(tmp_path):
    """Two GiB for one picture of 8 x 8 is refused with the limits that users get."""
    path = tmp_path / "m.onnx"
    path.write_bytes(GROWING)
    with pytest.raises(InputError, match="memory"):
        Classifier.open(path, resize="squash", preprocess="unit")


def test_limits_follow_the_file_and_its_input():
    small = limits_of(onnx_of([]), "onnx", "m")
    large = limits_of(onnx_of([], shape=(1, 3, 1024, 1024)), "onnx", "m")
    claimed = limits_of(onnx_of([], shape=(2**20, 3, 2**10, 2**10)), "onnx", "m")
    assert (small.memory >> 20, small.cpu_seconds) == (512, 5)  # as docs/hostile-input.md says, and the most of each
    assert (claimed.memory >> 20, claimed.cpu_seconds, claimed.seconds) == (1536, 20, 20)
    assert small.memory < large.memory < claimed.memory == trial.MOST_MEMORY
    assert small.cpu_seconds < large.cpu_seconds <= claimed.cpu_seconds == trial.MOST_SECONDS


def test_a_crash_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    """The child is another program here that ends as crashed interpreters do; this process goes on."""
    code = (
        "import sys, os; sys.path[:] = sys.argv[1:]; import mbn_deploy.runtime.backends.trial as t; "
        "t.open_backend = lambda *a, **k: os.abort(); from mbn_deploy.runtime.system.child import main; main()"
    )
    monkeypatch.setattr(child, "_CODE", code)
    path = tmp_path / "m.tflite"
    path.write_bytes(models.float_tflite())
    with pytest.raises(InputError, match=r"m\.tflite: .*crashed \(signal SIGABRT"):
        Classifier.open(path)


def test_the_second_opening_needs_no_trial(lone, started, cache):
    for _ in range(2):
        Classifier.open(lone).close()
    assert len(started) == 1
    trial._passed.clear()  # as in another process
    Classifier.open(lone).close()
    assert len(started) == 1
    cache.unlink()
    trial._passed.clear()
    Classifier.open(lone).close()
    assert len(started) == 2


def test_changed_bytes_are_tried_again(lone, started):
    Classifier.open(lone).close()
    if lone.suffix == ".tflite":
        lone.write_bytes(lone.read_bytes() + bytes(4))
    else:
        lone.write_bytes(lone.read_bytes() + b"\x1a\x00")  # producer_version, a string
    Classifier.open(lone).close()
    assert len(started) == 2


@pytest.mark.parametrize("content", [b"{", b'{"schema_version": 9}', b'{"schema_version": 1, "records": [3, {}]}'])
def test_a_damaged_cache_costs_a_trial(lone, started, cache, content):
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    Classifier.open(lone).close()
    assert len(started) == 1
    trial._passed.clear()
    Classifier.open(lone).close()
    assert len(started) == 1  # it was written anew


def test_a_cache_that_cannot_be_written_is_no_failure(lone, started, cache):
    cache.mkdir(parents=True)
    for _ in range(2):
        Classifier.open(lone).close()
    assert len(started) == 1  # this process remembers


def test_a_bundle_is_not_tried(tmp_path, started):
    folder = tmp_path / "bundle"
    models.write_bundle(folder, [("m.tflite", "tflite", "float32", models.float_tflite(), models.TF, "nhwc")])
    Classifier.open(folder).close()
    assert not started


def test_who_trusts_a_file_opens_it_at_once(lone, started):
    Classifier.open(lone, isolate=False).close()
    assert not started


def test_a_pool_is_tried_once(lone, started):
    ClassifierPool.open(lone, size=3, threads=1).close()
    assert len(started) == 1


@pytest.mark.parametrize("option", [(), ("--trust",), ("--isolate",)])
def test_the_command_line(lone, picture, option, started):
    result = run("run", lone, picture, *option)
    assert result.exit_code == 0, result.stderr
    assert len(started) == (0 if option == ("--trust",) else 1)


@pytest.mark.parametrize("how", ["frozen", "no program", "ends at once"])
def test_where_no_process_can_be_started_it_is_said(lone, monkeypatch, how, tmp_path):
    """A frozen program or an embedding one has no Python to start; --trust is named."""
    if how == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        monkeypatch.setattr(sys, "executable", "" if how == "no program" else "/bin/false")
    with pytest.raises(UsageError, match=r"m\..*isolate=False"):
        Classifier.open(lone)
    Classifier.open(lone, isolate=False).close()


def test_a_refused_file_is_not_remembered(tmp_path, started):
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_of([helper.make_node("Gather", ["x", "far"], ["y"])], ("far", [99])))
    for _ in range(2):
        with pytest.raises(InputError, match=r"m\.onnx"):
            Classifier.open(path, resize="squash", preprocess="unit")
    assert len(started) == 2


def test_the_child_process_ends(lone, monkeypatch):
    ended = []
    end = ChildProcess.close
    monkeypatch.setattr(ChildProcess, "close", lambda self: end(self) or ended.append(self.pid))
    Classifier.open(lone).close()
    assert len(ended) == 1


@unix
def test_a_crash_after_the_answer_counts():
    """What wrote beyond its memory is often noticed only when that is freed."""
    with pytest.raises(InputError, match=r"^m\.tflite: .*SIGABRT"):
        call_limited(child_functions.crash_at_the_end, interpreter="litert", limits=TrialLimits(), where="m.tflite")


def test_a_result_of_less_than_a_byte_a_value_is_refused(tmp_path):
    """The softmax of float32 values writes four bytes each, wherever they are to go."""
    path = tmp_path / "m.tflite"
    path.write_bytes(softmax_into(20))
    with pytest.raises(InputError, match=r"m\.tflite"):
        Classifier.open(path, resize="squash", preprocess="unit")


def softmax_into(kind):
    """A picture, as a row, through a softmax into a tensor of this type."""
    picture, row = T((1, 2, 4, 3)), T((1, 24))

    def softmax(model, s):
        graph = model.subgraphs[0]
        code, operator, scores = s.OperatorCodeT(), s.OperatorT(), copy.copy(graph.tensors[-1])
        code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.SOFTMAX
        scores.type, scores.name = kind, "scores"
        operator.opcodeIndex, operator.inputs, operator.outputs = 1, graph.outputs, [len(graph.tensors)]
        operator.builtinOptionsType, operator.builtinOptions = s.BuiltinOptions.SoftmaxOptions, s.SoftmaxOptionsT()
        graph.tensors.append(scores)
        graph.operators.append(operator)
        graph.outputs = operator.outputs
        model.operatorCodes.append(code)

    return written(Op("RESHAPE", (picture, T((2,), I32, [1, -1])), row, "Reshape"), softmax)
