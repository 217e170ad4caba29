"""Files of other makers: what is no classifier of pictures is called what it is, before anything is asked for."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tflite_files import I32, OPS, Op, T, scaled, written

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.inspect import inspect_file
from mbn_deploy.manifest import Preprocess, TensorInfo
from mbn_deploy.runtime import Classifier
from mbn_deploy.runtime.input_range import check_fits, takes_pixels

UINT8, INT64, STRING = 3, 4, 5
PICTURE = T((1, 8, 6, 3))


def custom(name):
    """A change of a file: its operation is of this name, and not of TensorFlow Lite."""

    def change(model, _):
        model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 32
        model.operatorCodes[0].customCode = name

    return change


def open_axes(*signature):
    """A change of a file: the input leaves the axes of -1 open."""

    def change(model, _):
        model.subgraphs[0].tensors[0].shapeSignature = list(signature)

    return change


def unchanged(*_):
    pass


def relu(source, result=None):
    return Op("RELU", (source,), source if result is None else result)


TFLITE = {
    "Edge TPU": (relu(PICTURE), custom("edgetpu-custom-op"), "Edge TPU.*`_edgetpu`"),
    "Ethos-U": (relu(PICTURE), custom("ethos-u"), "Ethos-U.*`_vela`"),
    "Neutron": (relu(PICTURE), custom("NeutronGraph"), "Neutron"),
    "detector": (relu(PICTURE), custom("TFLite_Detection_PostProcess"), "object detector"),
    "pose decoder": (relu(PICTURE), custom("PosenetDecoderOp"), "pose"),
    "Flex": (relu(PICTURE), custom("FlexErf"), "FlexErf.*SELECT_TF_OPS"),
    "custom": (relu(PICTURE), custom("MyOwnOp"), "custom.*MyOwnOp"),
    "segmentation": (relu(PICTURE), unchanged, "segmentation"),
    "pose": (Op("RESHAPE", (T((1, 17, 3, 1)), T((4,), I32, [1, 1, 17, 3])), T((1, 1, 17, 3))), unchanged, "pose"),
    "boxes": (Op("RESHAPE", (T((1, 8, 6, 3)), T((3,), I32, [1, 16, 9])), T((1, 16, 9))), unchanged, "detector"),
    "sound": (relu(T((15600,))), unchanged, "sound.*15600"),
    "values": (relu(T((1, 4))), unchanged, "row of values"),
    "spectrogram": (relu(T((1, 49, 40))), unchanged, "series.*1×49×40"),
    "tokens": (relu(T((1, 128), I32), T((1, 2))), unchanged, "text"),
    "strings": (relu(T((1,), STRING), T((1, 2))), unchanged, "text"),
    "no batch axis": (relu(T((8, 6, 3))), unchanged, "batch axis"),
    "video": (relu(T((1, 4, 8, 6, 3))), unchanged, "videos"),
    "four channels": (relu(T((1, 8, 6, 4))), unchanged, "1 or 3 channels"),
    "two inputs": (Op("ADD", (T((1, 8, 6, 3)), T((1, 8, 6, 3))), PICTURE, "Add"), unchanged, "2 inputs"),
    "open size": (relu(T((1, 1, 1, 3))), open_axes(-1, -1, -1, 3), "height and width open.*keras.Input"),
    "open height": (relu(T((1, 1, 6, 3))), open_axes(1, -1, 6, 3), "its height open"),
    "features": (relu(T((1, 1, 1, 512)), T((1, 10))), unchanged, "part of a model"),
    "the choice": (relu(PICTURE, T((1, 6), INT64)), unchanged, "not the scores"),
}


@pytest.mark.parametrize("kind", TFLITE)
def test_a_tflite_file_is_called_what_it_is(tmp_path, kind):
    op, change, words = TFLITE[kind]
    path = tmp_path / "model.tflite"
    path.write_bytes(written(op, change))
    with pytest.raises(InputError, match=rf"model\.tflite is .*{words}") as caught:
        Classifier.open(path)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("kind", ["Edge TPU", "detector", "segmentation", "open size", "sound"])
def test_such_a_file_is_inspected(tmp_path, kind):
    op, change, _ = TFLITE[kind]
    path = tmp_path / "model.tflite"
    path.write_bytes(written(op, change))
    report = inspect_file(path)
    assert report.purpose
    assert report.inputs[0].shape


def test_a_classifier_is_no_other_thing(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(written(Op("MEAN", (PICTURE, T((2,), I32, [1, 2])), T((1, 3)), "Reducer")))
    assert inspect_file(path).purpose is None
    with pytest.raises(UsageError, match="preprocess"):
        Classifier.open(path)


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_damaged_is_said_of_damaged_files(tmp_path, name):
    data = written(OPS["conv"]) if name.endswith("tflite") else onnx_model().SerializeToString()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=rf"{name}.*damaged"):
        Classifier.open(tmp_path / name)


def test_scales_of_biases_along_an_axis_that_is_not_there_are_a_warning(tmp_path):
    conv = OPS["conv8"]
    bias = scaled(I32, (2,), 0.01, 0.02, data=0, axis=3)
    path = tmp_path / "model.tflite"
    path.write_bytes(written(Op(conv.kind, (*conv.inputs[:2], bias), conv.output, conv.options, conv.fields, 3)))
    (warning,) = inspect_file(path).warnings
    assert "t2" in warning


def onnx_model(source=(1, 3, 8, 6), *, result=(1, 3), kind=TensorProto.FLOAT, nodes=None, outputs=1, opset=13):
    """A network of one weighted node and a mean over the places."""
    weights = numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1) * 2, "w")
    nodes = nodes or [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["y0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, source)],
        [helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, result) for number in range(outputs)],
        [weights],
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=7,
    )


ONNX = {
    "open size": ({"source": ("n", 3, "h", "w")}, "height and width open.*make_dynamic_shape_fixed"),
    "tokens": ({"source": (1, 128), "kind": TensorProto.INT64}, "text"),
    "two outputs": (
        {
            "nodes": [
                helper.make_node("Conv", ["x", "w"], ["y0"]),
                helper.make_node("GlobalAveragePool", ["y0"], ["y1"]),
            ],
            "outputs": 2,
        },
        "2 outputs",
    ),
    "segmentation": (
        {"nodes": [helper.make_node("Conv", ["x", "w"], ["y0"])], "result": (1, 3, 8, 6)},
        "every place",
    ),
    "classes of its own": (
        {"nodes": [helper.make_node("Normalizer", ["x"], ["y0"], domain="ai.onnx.ml")]},
        r"ai\.onnx\.ml\.Normalizer",
    ),
}


@pytest.mark.parametrize("kind", ONNX)
def test_an_onnx_file_is_called_what_it_is(tmp_path, kind):
    options, words = ONNX[kind]
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model(**options).SerializeToString())
    with pytest.raises(InputError, match=rf"model\.onnx is .*{words}") as caught:
        Classifier.open(path)
    assert "damaged" not in str(caught.value)
    assert inspect_file(path).purpose


def answers(path):
    with Classifier.open(path, resize="squash", preprocess="unit", scores="values") as opened:
        return opened.run_raw(opened.prepare(np.full((8, 6, 3), (0, 51, 255), np.uint8)))


@pytest.mark.parametrize("result", [None, (None, None), ("n", 3), ("n", "classes")])
def test_shapes_that_an_older_exporter_left_open(tmp_path, result):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model(source=("n", 3, 8, 6), result=result, opset=11).SerializeToString())
    np.testing.assert_allclose(answers(path), [[0, 0.4, 2]], atol=1e-6)


def save_external(folder, location="weights.bin"):
    onnx.save_model(
        onnx_model(), folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    if location != "weights.bin":
        data = (folder / "model.onnx").read_bytes()
        assert len(location) == len("weights.bin")
        (folder / "model.onnx").write_bytes(data.replace(b"weights.bin", location.encode()))
    return folder / "model.onnx"


def test_weights_in_another_file_of_the_folder_are_read(tmp_path):
    path = save_external(tmp_path)
    np.testing.assert_allclose(answers(path), [[0, 0.4, 2]], atol=1e-6)
    assert inspect_file(path).parameters == 9


@pytest.mark.parametrize("read", [inspect_file, Classifier.open])
@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda folder: (folder / "weights.bin").unlink(), r"weights\.bin, which is missing"),
        (lambda folder: (folder / "weights.bin").write_bytes(b"abc"), r"weights\.bin"),
        (lambda folder: save_external(folder, "../../a.bin"), r"\.\./\.\./a\.bin"),
        (lambda folder: save_external(folder, "/etc/passwd"), "/etc/passwd"),
        (lambda folder: save_external(folder, "..\\..\\a.bin"), "folder"),
    ],
)
def test_weights_that_are_not_there_or_elsewhere_are_named(tmp_path, read, spoil, named):
    path = save_external(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=rf"model\.onnx.*{named}"):
        read(path)


def uint8(low, high, dtype="uint8"):
    """The input of 256 levels that covers a range."""
    scale = (high - low) / 255
    return TensorInfo("x", (1, 8, 6, 3), dtype, scale, round(-low / scale) - (128 if dtype == "int8" else 0))


@pytest.mark.parametrize(
    ("ends", "raw"),
    [
        ((0, 1), True), ((-1, 1), True), ((-1, 127 / 128), True), ((0, 255), True), ((-127 / 128, 1), True),
        ((0, 1.147), False), ((0, 0.8), False), ((-2.12, 2.64), False), ((-0.9, 0.7), False), ((0, 6), False),
    ],
)  # fmt: skip
def test_which_uint8_inputs_take_pixels(ends, raw):
    assert takes_pixels(uint8(*ends)) is raw


def test_a_uint8_input_of_a_calibrated_range_is_asked_about(tmp_path):
    mean = Op("MEAN", (scaled(UINT8, (1, 8, 6, 3), 0.0045), T((2,), I32, [1, 2])), T((1, 3), UINT8), "Reducer")
    path = tmp_path / "model.tflite"
    path.write_bytes(written(mean))
    with pytest.raises(UsageError, match=r"preprocess.*\[0, 1\.147"):
        Classifier.open(path, resize="squash", scores="values")


@pytest.mark.parametrize(
    ("mode", "ends"),
    [("raw", (-1, 1)), ("raw", (0, 1)), ("tf", (0, 1)), ("unit", (-1, 1)), ("unit", (0, 255)), ("tf", (-128, 127)),
     ("caffe", (-1, 1)), ("torch", (0, 255))],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_a_preprocessing_that_cannot_fit_the_input_is_refused(mode, ends, dtype):
    with pytest.raises(UsageError, match="covers"):
        check_fits(Preprocess.parse(mode), uint8(*ends, dtype), "model.tflite")


@pytest.mark.parametrize(
    ("mode", "ends"),
    [("raw", (0, 255)), ("tf", (-1, 127 / 128)), ("unit", (0, 1.147)), ("unit", (0.02, 0.91)), ("torch", (-2.12, 2.64)),
     ("torch", (-1.8, 2.2)), ("caffe", (-128, 127)), ("127/128", (-1, 1))],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_a_preprocessing_that_fits_is_taken(mode, ends, dtype):
    check_fits(Preprocess.parse(mode), uint8(*ends, dtype), "model.tflite")


def test_a_float_input_takes_any_preprocessing():
    check_fits(Preprocess.parse("caffe"), TensorInfo("x", (1, 8, 6, 3), "float32"), "model.tflite")
    assert not takes_pixels(TensorInfo("x", (1, 8, 6, 3), "int8", 1 / 255, -128))
