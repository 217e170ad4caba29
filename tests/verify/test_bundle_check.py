"""`verify` on bundles that somebody changed and whose checksums are right: what is wrong is seen and named."""

import json
from dataclasses import replace

import numpy as np
import pytest
from changed_models import NAMES, accept, change_golden, initializers
from cli_run import run
from runtime_models import edit_manifest

from mbn_deploy.errors import InputError
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import LABELS_NAME
from mbn_deploy.runtime import Classifier
from mbn_deploy.runtime.backends.modules import load_interpreter
from mbn_deploy.verify.bundle_check import verify_bundle

CLASSES = 10


def rows_of_classes(path):
    """Return the constants of a file whose first axis is the classes: weights and biases of the last layer."""
    data = path.read_bytes()
    if path.suffix == ".onnx":
        arrays = initializers(data).values()
    else:
        module = load_interpreter("litert")
        resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = module.Interpreter(model_content=data, experimental_op_resolver_type=resolver)
        details = [d for d in interpreter.get_tensor_details() if list(d["shape"][:1]) == [CLASSES]]
        arrays = [interpreter.get_tensor(d["index"]) for d in details]
    return [array for array in arrays if array.shape[:1] == (CLASSES,) and data.count(array.tobytes()) == 1]


def swap_classes(path, first, second):
    """Swap two classes in the last layer, and make the checksum right."""
    data = path.read_bytes()
    for array in rows_of_classes(path):
        order = np.arange(CLASSES)
        order[[first, second]] = second, first
        data = data.replace(array.tobytes(), array[order].tobytes())
    path.write_bytes(data)
    accept(path)


def entry_of(manifest, name):
    return next(entry for entry in manifest["files"] if entry["path"] == name)


@pytest.mark.parametrize("name", NAMES.values())
def test_two_swapped_classes_are_seen_where_probabilities_hide_them(bundle, name):
    """All pairs of the class 0, in every kind of file; the other files pass."""
    sound = (bundle / name).read_bytes()
    for other in range(1, CLASSES):
        (bundle / name).write_bytes(sound)
        swap_classes(bundle / name, 0, other)
        found = verify_bundle(bundle, backend="onnx" if name.endswith("onnx") else "litert")
        assert not found.passed, other
        failed = [result for result in found.files if not result.passed]
        assert [result.file for result in failed] == [name]
        assert not failed[0].operations.before_answers.passed


@pytest.mark.parametrize("name", NAMES.values())
def test_a_sound_file_says_how_far_what_goes_into_the_softmax_is_off(exported, name):
    found = next(result for result in verify_bundle(exported[0]).files if result.file == name)
    end = found.operations.before_answers
    assert end.largest <= end.tolerance
    assert end.values == 2 * CLASSES
    assert end.levels == ("int8" in name)


def test_a_file_without_golden_vectors_fails_and_is_named(bundle):
    """A copy under another name, of the same or of another format, with sound or random bytes."""
    for contents in ((bundle / NAMES["int8.onnx"]).read_bytes(), np.random.default_rng(0).bytes(4000)):
        for name in ("other.onnx", "other.tflite"):
            (bundle / name).write_bytes(contents)

            def rename(manifest, contents=contents, name=name):
                entry = manifest["files"][-1]
                entry.update(path=name, format=name.split(".")[1], size=len(contents), sha256=sha256(contents))

            edit_manifest(bundle, rename)
            result = run("verify", bundle, "--json")
            assert result.exit_code == 5, result.stderr
            assert json.loads(result.stdout)["without_vectors"] == [name]
            assert "no interpreter" not in result.stderr
            assert name in run("verify", bundle).stdout


@pytest.mark.parametrize("name", NAMES.values())
@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 1e6])
def test_impossible_tolerances_are_refused(bundle, name, value):
    change_golden(bundle, lambda golden: replace(golden, tolerances={**golden.tolerances, name: value}))
    with pytest.raises(InputError, match=name):
        verify_bundle(bundle)


@pytest.mark.parametrize("field", ["cross_kernel_tolerance", "relative_tolerance"])
def test_impossible_limits_of_other_kernels_are_refused(bundle, field):
    name = NAMES["float32.tflite"]

    def widened(golden):
        return replace(golden, provenance={**golden.provenance, name: replace(golden.provenance[name], **{field: 0.9})})

    change_golden(bundle, widened)
    with pytest.raises(InputError, match=name):
        verify_bundle(bundle)


GOOGLE = " in TFLITE_METADATA"  # a .tflite file says some things twice: to this program, and to Google's
CHANGES = {
    "input scale": lambda m: [e["input"].update(scale=0.5) for e in m["files"] if e["input"]["scale"] is not None],
    "input zero point": lambda m: entry_of(m, NAMES["int8.onnx"])["input"].update(zero_point=7),
    "output scale": lambda m: entry_of(m, NAMES["int8.tflite"])["output"].update(scale=3.0),
    "preprocess.resize": lambda m: entry_of(m, NAMES["float32.onnx"])["preprocess"].update(resize="letterbox"),
    "preprocess.channels": lambda m: entry_of(m, NAMES["int8.tflite"])["preprocess"].update(channels="bgr"),
    "preprocess.mean": lambda m: entry_of(m, NAMES["float32.tflite"])["preprocess"].update(mean=[0.0, 0.0, 0.0]),
    "answers": lambda m: m.update(scores="sigmoid", meaning="labels"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_the_manifest_says_otherwise_than_a_file_is_named(bundle, what):
    edit_manifest(bundle, CHANGES[what])
    result = run("verify", bundle, "--json")
    assert result.exit_code == 5, result.stderr
    found = json.loads(result.stdout)["disagreements"]
    assert {one["what"].removesuffix(GOOGLE) for one in found} == {what}
    assert all(one["manifest"] != one["own"] for one in found)
    assert what in run("verify", bundle).stdout


def test_labels_in_another_order_are_named(bundle):
    labels = (bundle / LABELS_NAME).read_text().split("\n")
    labels[3], labels[5] = labels[5], labels[3]
    (bundle / LABELS_NAME).write_text("\n".join(labels))
    edit_manifest(bundle, lambda m: m.update(labels_sha256=sha256((bundle / LABELS_NAME).read_bytes())))
    found = verify_bundle(bundle)
    assert not found.passed
    assert {one.file for one in found.disagreements} == set(NAMES.values())
    assert {one.what for one in found.disagreements} == {"label 3", f"label 3{GOOGLE}"}
    assert {(one.manifest, one.own) for one in found.disagreements} == {(labels[3], labels[5])}


def test_what_old_bundles_cannot_have_compared_is_said(bundle):
    change_golden(bundle, lambda golden: replace(golden, provenance={}))
    result = run("verify", bundle)
    assert result.exit_code == 0, result.stderr
    assert "Not compared" in result.stdout


@pytest.mark.parametrize(("end", "changed"), [("input", {"zero_point": 3}), ("output", {"scale": 16.0})])
def test_a_bundle_whose_scales_are_not_the_files_is_not_opened(bundle, end, changed):
    edit_manifest(bundle, lambda m: entry_of(m, NAMES["int8.tflite"])[end].update(changed))
    with pytest.raises(InputError, match=NAMES["int8.tflite"]):
        Classifier.open(bundle, precision="int8", backend="litert")


def test_a_file_that_crashes_its_interpreter_fails(exported, monkeypatch):
    """Kernels abort on some damaged files, for example on a thousand classes that are equally likely."""
    code = (
        "import sys, os; sys.path[:] = sys.argv[1:]; import mbn_deploy.verify.replay as replay; "
        "replay.check = lambda *_, **__: os.abort(); from mbn_deploy.runtime.system.child import main; main()"
    )
    monkeypatch.setattr("mbn_deploy.runtime.system.child._CODE", code)
    result = run("verify", exported[0])
    assert result.exit_code == 5
    assert "SIGABRT" in result.stderr


def test_where_no_process_can_be_started_files_are_replayed_in_this_one(exported, monkeypatch):
    monkeypatch.setattr("sys.executable", "")
    assert verify_bundle(exported[0]).passed
