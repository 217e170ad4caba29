"""Files that open well and answer with what is no answer: no numbers, too many, NaN, infinity."""

import json

import numpy as np
import pytest
from cli_run import run
from PIL import Image
from tflite_files import I32, Op, T, written
from unusable_answers import SIZE, brightness_file, lying_file

from mbn_deploy.answers import ENDS
from mbn_deploy.errors import InputError
from mbn_deploy.runtime import Classifier
from mbn_deploy.runtime.backends import open_backend

BLACK, WHITE = np.zeros((*SIZE, 3), np.uint8), np.full((*SIZE, 3), 255, np.uint8)
EMPTY = Op("SLICE", (T((1, 8, 6, 3)), T((4,), I32, [0] * 4), T((4,), I32, [1, 0, 6, 3])), T((1, 0, 6, 3)), "Slice")
KINDS = ["-infinity", "infinity", "NaN"]
ALL_ENDS = [(meaning, scores) for meaning, ends in ENDS.items() for scores in ends]


def opened(folder, data, name="made.onnx", **options):
    (folder / name).write_bytes(data)
    return Classifier.open(folder / name, threads=1, **({"isolate": False} | options))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("meaning", "scores"), ALL_ENDS)
def test_an_answer_that_is_not_finite_is_an_error_for_this_picture_alone(tmp_path, kind, meaning, scores):
    data = brightness_file(kind, meaning, scores, outputs=1 if meaning == "binary" else 3)
    with opened(tmp_path, data) as classifier:
        classifier.answer(WHITE)
        assert np.isfinite(classifier.predict(WHITE[None])).all()
        with pytest.raises(InputError, match=r"made\.onnx"):
            classifier.answer(BLACK)
        with pytest.raises(InputError, match=r"made\.onnx"):
            classifier.predict(np.stack([WHITE, BLACK]))
        answers = list(classifier.answer_stream([WHITE, BLACK, WHITE], on_error="yield"))
        assert [each.error is None for each in answers] == [True, False, True]


def test_a_class_that_is_not_among_the_best_is_looked_at_too(tmp_path):
    half = BLACK.copy()
    half[..., 0] = 255  # the first class has a number, the others have none
    data = brightness_file("-infinity", "classes", "sigmoid")
    with opened(tmp_path, data) as classifier, pytest.raises(InputError, match=r"made\.onnx"):
        classifier.classify(half, top_k=1)


@pytest.mark.parametrize("meaning", ["classes", "labels", "values", "embedding"])
@pytest.mark.parametrize("isolate", [False, True])
def test_an_answer_of_another_length_than_declared(tmp_path, meaning, isolate):
    data = lying_file(meaning, ENDS[meaning][0])
    with opened(tmp_path, data, isolate=isolate) as classifier:
        for colours in (1, 5, 9):  # also where the first five are all that is looked at
            picture = BLACK.copy()
            picture.reshape(-1)[:colours] = 255
            with pytest.raises(InputError, match=r"made\.onnx"):
                classifier.answer(picture)


def test_a_tflite_file_with_an_output_of_no_numbers():
    with pytest.raises(InputError, match=r"made\.tflite.*\(1, 0, 6, 3\)"):
        open_backend(written(EMPTY), "tflite", where="made.tflite")


def test_an_onnx_file_with_an_output_of_no_numbers():
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Slice", ["x", "from", "to", "axis"], ["o"])]
    constants = [helper.make_tensor(n, TensorProto.INT64, [1], [v]) for n, v in (("from", 2), ("to", 2), ("axis", 1))]
    for shape in ((1, 0, 8, 8), (1, None, 8, 8)):  # declared, and found when it is run
        inputs, outputs = (
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, size)]
            for name, size in (("x", (1, 3, 8, 8)), ("o", shape))
        )
        graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        with pytest.raises(InputError, match=r"made\.onnx"):
            open_backend(model.SerializeToString(), "onnx", where="made.onnx")


def test_the_command_line_names_the_picture_and_answers_the_others(tmp_path):
    (tmp_path / "made.onnx").write_bytes(brightness_file("infinity", "values", "none"))
    for name, pixels in (("black.png", BLACK), ("white.png", WHITE)):
        Image.fromarray(pixels).save(tmp_path / name)
    result = run("run", tmp_path / "made.onnx", tmp_path / "black.png", tmp_path / "white.png", "--json")
    assert result.exit_code == 3
    black, white = json.loads(result.stdout)["images"]
    assert "made.onnx" in black["error"]
    assert len(white["values"]) == 3


def test_an_evaluation_with_an_answer_that_is_not_finite(tmp_path):
    (tmp_path / "made.onnx").write_bytes(brightness_file("infinity", "classes", "logits"))
    for name, pixels in (("0", BLACK), ("1", WHITE), ("2", WHITE)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "pictures" / name / "a.png")
    result = run("evaluate", tmp_path / "made.onnx", "--data", tmp_path / "pictures")
    assert result.exit_code == 3
    assert "made.onnx" in result.stderr
