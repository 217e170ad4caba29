"""`verify`: a sound bundle passes, a changed one fails by the operation, other kernels are told from wrong ones."""

import functools
import json
import struct
import sys
from dataclasses import replace

import numpy as np
import pytest
from changed_models import LAYER, NAMES, change_golden, change_layer
from cli_run import run
from runtime_models import edit_manifest

from mbn_deploy.errors import InputError
from mbn_deploy.manifest import GOLDEN_NAME
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.backends.delegation import BUILT_IN, XNNPACK
from mbn_deploy.runtime.backends.modules import load_interpreter
from mbn_deploy.runtime.operation_runs.open import open_operations
from mbn_deploy.runtime.operation_runs.operation import Operation
from mbn_deploy.runtime.operation_runs.tflite import SingleOperation, Wiring
from mbn_deploy.verify import operation_check as operations
from mbn_deploy.verify.bundle_check import verify_bundle
from mbn_deploy.verify.golden import Golden, golden_bytes, read_golden


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: replace(g, pixels=g.pixels[:0], outputs={n: o[:0] for n, o in g.outputs.items()}), "pixels"),
        (lambda g: replace(g, pixels=g.pixels[:, :16]), r"golden\.npz are \(16, "),
    ],
)
def test_golden_pictures_that_are_not_of_this_bundle(bundle, change, message):
    change_golden(bundle, change)
    with pytest.raises(InputError, match=message):
        verify_bundle(bundle)


def replayed(folder, name, **options):
    return next(r for r in verify_bundle(folder, **options).files if r.file == name)


@pytest.fixture
def other_kernels(monkeypatch):
    """LiteRT without XNNPACK, in this process: TensorFlow Lite's own kernels, really another family."""
    monkeypatch.setattr(sys, "executable", "")  # a child process would not know of the other interpreter
    module = load_interpreter("litert")
    original = module.Interpreter
    own = functools.partial(
        original,
        experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )

    def interpreter(**options):
        return original(**options) if "experimental_op_resolver_type" in options else own(**options)

    monkeypatch.setattr(module, "Interpreter", interpreter)


def test_a_sound_bundle_passes_and_says_by_what(exported):
    result = run("verify", exported[0])
    assert result.exit_code == 0, result.stderr
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert result.stdout.count("passed") == 4
    assert "0 levels" in result.stdout
    assert "XNNPACK" in result.stdout
    assert "FAILED" not in result.stdout


def test_json_has_everything_the_screen_has(exported):
    result = run("verify", exported[0], "--json", "--threads", 1)
    answer = json.loads(result.stdout)
    assert answer["passed"] is True
    assert answer["not_replayed"] == []
    files = {f["file"]: f for f in answer["files"]}
    assert set(files) == set(NAMES.values())
    int8 = files[NAMES["int8.tflite"]]
    assert (int8["backend"], int8["level"], int8["tolerance"], int8["images"]) == ("litert", 1.0, 1.0, 5)
    assert int8["made_with"] == int8["kernels"]
    assert int8["kernels"].startswith(XNNPACK)
    assert BUILT_IN in int8["kernels"]  # XNNPACK has no int8 softmax
    assert files[NAMES["float32.tflite"]]["kernels"] == XNNPACK
    assert files[NAMES["int8.onnx"]]["kernels"] == "ONNX Runtime MLAS"


def test_one_backend_replays_its_files_and_names_the_others(exported):
    result = run("verify", exported[0], "--backend", "onnx", "--json")
    answer = json.loads(result.stdout)
    assert {f["file"] for f in answer["files"]} == {NAMES["float32.onnx"], NAMES["int8.onnx"]}
    assert sorted(answer["not_replayed"]) == sorted([NAMES["float32.tflite"], NAMES["int8.tflite"]])
    assert "not replayed" in result.stderr


def test_nothing_to_replay_is_no_success(bundle):
    edit_manifest(bundle, lambda m: m.update(files=[f for f in m["files"] if f["format"] == "tflite"]))
    result = run("verify", bundle, "--backend", "onnx")
    assert result.exit_code == 2
    assert "replayed by onnx" in result.stderr


@pytest.mark.parametrize("name", NAMES.values())
def test_the_operation_whose_weights_changed_is_named(bundle, name):
    """In one of 64 output channels; its file alone fails."""
    change_layer(bundle / name, channel=5)
    result = run("verify", bundle, "--json")
    assert result.exit_code == 5
    for file in json.loads(result.stdout)["files"]:
        assert file["passed"] == (file["file"] != name)
        if not file["passed"]:
            first = file["operations"]["first"]
            assert first["name"].startswith(f"{LAYER}_relu")
            assert first["kind"] in ("CONV_2D", "Conv")
            assert first["against"] == "export"
            assert first["levels"] == ("int8" in name)
            assert first["largest"] > first["tolerance"]


def test_the_screen_names_it_too(bundle):
    change_layer(bundle / NAMES["int8.tflite"], channel=5)
    result = run("verify", bundle)
    assert result.exit_code == 5
    words = " ".join(result.stdout.split())
    assert words.count("FAILED") == 1
    assert "operation 8 of 33, CONV_2D conv_pw_3_relu" in words
    assert "this file was changed" in words


def test_other_kernels_pass_by_operations(bundle, other_kernels):
    """Their outputs are levels off; every operation from the same inputs is one off at most."""
    found = replayed(bundle, NAMES["int8.tflite"])
    assert found.kernels == BUILT_IN
    assert found.made_with.startswith(XNNPACK)
    assert found.largest > found.tolerance
    assert found.passed
    assert found.operations.compared == 33
    assert found.operations.against == ("export", "reference")
    assert found.operations.largest <= 1
    words = " ".join(run("verify", bundle).stdout.split())
    assert "rounding" in words


def test_other_kernels_do_not_hide_changed_weights(bundle, other_kernels):
    change_layer(bundle / NAMES["int8.tflite"], channel=5)
    found = replayed(bundle, NAMES["int8.tflite"])
    assert not found.passed
    assert found.operations.first.name == f"{LAYER}_relu"


def test_a_kernel_that_is_wrong_on_this_machine_is_told_from_a_changed_file(bundle, other_kernels, monkeypatch):
    """No kernel here is wrong, so one operation's result is moved behind it."""
    right = SingleOperation.run

    def wrong(self, tensors):
        value = right(self, tensors)
        return value ^ 0x40 if self._written == wiring.written[7] else value

    wiring = Wiring((bundle / NAMES["int8.tflite"]).read_bytes(), "here")
    monkeypatch.setattr(SingleOperation, "run", wrong)
    found = replayed(bundle, NAMES["int8.tflite"])
    assert not found.passed
    first = found.operations.first
    assert (first.number, first.name, first.against, first.largest) == (8, f"{LAYER}_relu", "reference", 64)
    words = " ".join(run("verify", bundle).stdout.split())
    assert "The file is correct" in words
    assert f"operation 8 of 33, CONV_2D {LAYER}_relu" in words


def test_outputs_that_moved_without_any_operation(bundle):
    """Golden outputs that this file never gave: nothing adds up to that."""

    def moved(golden):
        name = NAMES["int8.tflite"]
        return Golden(
            golden.pixels, {**golden.outputs, name: golden.outputs[name] ^ 0x10}, golden.tolerances, golden.provenance
        )

    change_golden(bundle, moved)
    found = replayed(bundle, NAMES["int8.tflite"])
    assert not found.passed
    assert found.operations.passed
    assert "differ by more than the same kernels may" in " ".join(run("verify", bundle).stdout.split())


def test_bundles_without_samples_are_replayed_all_the_same(bundle):
    change_golden(bundle, lambda golden: Golden(golden.pixels, golden.outputs, golden.tolerances))
    assert run("verify", bundle).exit_code == 0
    change_layer(bundle / NAMES["int8.tflite"], channel=5)
    result = run("verify", bundle)
    assert result.exit_code == 5
    assert "export again" in " ".join(result.stdout.split())


def test_samples_of_another_file_are_refused(bundle):
    def swapped(golden):
        made = {NAMES["int8.tflite"]: golden.provenance[NAMES["int8.onnx"]]}
        return Golden(golden.pixels, golden.outputs, golden.tolerances, made)

    change_golden(bundle, swapped)
    change_layer(bundle / NAMES["int8.tflite"], channel=5)
    result = run("verify", bundle)
    assert result.exit_code == 3
    assert "not of this file" in result.stderr


def test_reading_back_what_vectors_were_made_with(exported):
    golden = read_golden((exported[0] / GOLDEN_NAME).read_bytes(), "golden")
    assert set(golden.provenance) == set(golden.outputs)
    made = golden.provenance[NAMES["int8.tflite"]]
    assert made.backend.startswith("litert ")
    assert made.samples.dtype == np.uint8
    assert golden_bytes(golden) == (exported[0] / GOLDEN_NAME).read_bytes()


@pytest.mark.parametrize("name", NAMES.values())
def test_looking_at_operations_changes_nothing(exported, name):
    """The last of all operations gives the very output of the untouched file."""
    data, kind = (exported[0] / name).read_bytes(), name.rpartition(".")[2]
    plain = open_backend(data, kind, threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, plain.input.shape).astype(plain.input.dtype)
    opened = open_operations(data, kind, plain.name, threads=1, where=name)
    values = opened.run(pixels)
    assert len(values) == len(opened.operations) > 30
    if name != NAMES["int8.onnx"]:  # there the last integers are handed on as floats
        np.testing.assert_array_equal(values[-1], plain.run(pixels))


def test_lone_operations_together_are_the_whole(exported):
    """Each from the results of those before: XNNPACK alone computes as XNNPACK in a row."""
    data = (exported[0] / NAMES["int8.tflite"]).read_bytes()
    whole = open_operations(data, "tflite", "litert", threads=1, where="whole")
    wiring = Wiring(data, "here")
    source = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    values = whole.run(source)
    tensors = {wiring.source: source} | dict(zip(wiring.written, values, strict=True))
    for index, value in enumerate(values):
        np.testing.assert_array_equal(SingleOperation(wiring, index, "litert", 1, "lone").run(tensors), value)


def test_operations_on_constants_are_left_out(exported, tmp_path):
    """float16 files turn their weights into floats, which XNNPACK never does; a reader of them would read garbage."""
    from export_models import small_model

    from mbn_deploy.pipeline.export import export_model

    export_model(small_model(), tmp_path / "dist", formats=["tflite"], precisions=["float16"])
    data = next((tmp_path / "dist").glob("*.tflite")).read_bytes()
    opened = open_operations(data, "tflite", "litert", threads=1, where="here")
    assert "DEQUANTIZE" not in {operation.kind for operation in opened.operations}


def test_every_channel_is_sampled():
    for shape in ((1, 7, 7, 512), (1, 112, 112, 16), (1, 1, 1, 1280), (1, 10), (1, 3, 5, 7)):
        value = np.broadcast_to(np.arange(shape[-1]), shape)
        sample = operations.spread_sample(value)
        assert set(sample.tolist()) == set(range(shape[-1]))
        assert len(sample) <= max(operations.SAMPLES, shape[-1])


def test_damaged_files_are_refused_before_an_interpreter_sees_them():
    from mbn_deploy.errors import InputError
    from mbn_deploy.runtime.operation_runs.onnx import data_nodes

    with pytest.raises(InputError, match="damaged, or no ONNX file"):
        open_operations(b"\x3a\xff\xff\xff\x0f", "onnx", "onnx", threads=1, where="here")
    with pytest.raises(InputError, match="damaged, or no TFLite file"):
        open_operations(struct.pack("<I4s", 4, b"TFL2"), "tflite", "litert", threads=1, where="here")
    assert data_nodes(b"") == ([], set())
    assert str(Operation("CONV_2D", "a")) == "CONV_2D 'a'"


def test_cut_off_files_are_damage_and_no_surprise(exported):
    """Whatever the bytes, the reader of protobuf ends with an answer or with `DamagedError`."""
    from mbn_deploy.runtime.formats.flatbuffer import DamagedError
    from mbn_deploy.runtime.operation_runs.onnx import data_nodes

    data = (exported[0] / NAMES["int8.onnx"]).read_bytes()
    rng = np.random.default_rng(0)
    damaged = 0
    for cut in rng.integers(0, len(data), 60):
        spoiled = bytearray(data)
        spoiled[cut : cut + 8] = rng.bytes(8)
        for bytes_ in (data[:cut], bytes(spoiled)):
            try:
                data_nodes(bytes_)
            except DamagedError:  # noqa: PERF203 (each of them is tried)
                damaged += 1
    assert damaged >= 60  # every cut


def test_files_of_several_images_at_once(exported, digits, tmp_path):
    """--batch: operations are looked at with one image, as often as there is room."""
    from cli_run import NETWORK

    out = tmp_path / "dist"
    made = run(
        "export", *NETWORK, "-o", out, "--precisions", "float32,int8", "--batch", 2, "--resize", "squash",
        "--calibrate", digits / "calibration", "--calibration-count", 20,
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    assert run("verify", out).exit_code == 0
    change_layer(next(out.glob("*int8.tflite")), channel=5)
    answer = json.loads(run("verify", out, "--json").stdout)
    assert [f["operations"]["first"]["name"] for f in answer["files"] if not f["passed"]] == [f"{LAYER}_relu"]
