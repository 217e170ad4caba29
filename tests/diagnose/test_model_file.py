"""Files that a diagnosis opens: what they say of themselves, what is implied, and what is asked for."""

import numpy as np
import pytest
import runtime_models as models
from export_models import write_pictures
from tflite_files import OPS, written

from mbn_deploy.answers import Answers
from mbn_deploy.diagnose.diagnose import diagnose
from mbn_deploy.diagnose.model_file import input_layout, input_preprocess, load_images, open_model
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.inspect import inspect_file
from mbn_deploy.manifest import Preprocess, TensorInfo


@pytest.fixture
def write(tmp_path):
    """Writes a file, gives its path."""

    def made(name, data):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return made


def undescribed_onnx(layout, free=()):
    """`free` are axes of the input that are open."""
    import onnx

    model = onnx.load_from_string(models.float_onnx(layout))
    del model.metadata_props[:]
    for axis in free:
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"free{axis}"
    return model.SerializeToString()


def test_our_files_say_it_and_options_win(write):
    path = write("m.tflite", models.float_tflite())
    assert open_model(path, None, None).preprocess == models.TF
    assert open_model(path, "crop", "unit").preprocess == Preprocess.parse("unit", resize="crop")
    given = Preprocess.parse("torch", resize="letterbox")
    assert open_model(path, None, given).preprocess == given
    pixels = write("q.tflite", models.int8_tflite())
    assert open_model(pixels, None, "unit").preprocess == models.PIXELS  # uint8 is pixels whatever one says


def test_a_uint8_input_of_another_maker_is_pixels(write):
    path = write("q.tflite", models.int8_tflite(described=False))
    found = open_model(path, "squash", None)
    np.testing.assert_allclose((found.preprocess.mean, found.preprocess.std), (models.PIXELS.mean, models.PIXELS.std))
    assert (found.preprocess.resize, found.layout, found.answers) == ("squash", "nhwc", Answers())
    with pytest.raises(UsageError, match=r"q\.tflite.*--resize"):
        open_model(path, None, None)


def test_a_uint8_input_without_a_scale_is_pixels_as_they_are(write):
    report = inspect_file(write("q.tflite", models.int8_tflite(described=False)))
    found = input_preprocess(report, TensorInfo("x", (1, 8, 8, 3), "uint8"), "squash", None)
    assert (found.mean, found.std) == ((0.0,) * 3, (1.0,) * 3)


def test_grey_pictures_have_one_channel():
    assert input_layout((1, 8, 6, 1), "m.onnx") == "nhwc"
    assert input_layout((1, 1, 8, 6), "m.onnx") == "nchw"


def test_the_number_of_pictures_may_be_open_and_nothing_else(write):
    assert open_model(write("m.onnx", undescribed_onnx("nhwc", free=[0])), "squash", "tf").info.shape[0] == 1
    for axis in (1, 2, 3):
        path = write("m.onnx", undescribed_onnx("nhwc", free=[axis]))
        with pytest.raises(InputError, match=r"[am]\.(onnx|tflite)"):
            open_model(path, "squash", "tf")


@pytest.mark.parametrize("count", [3, 5, 8])
def test_pictures_that_fill_no_batch(write, count):
    """Of five at once: less than one, one, and one with three more."""
    one, five = (open_model(write(f"{n}.tflite", models.float_tflite(batch=n)), None, None) for n in (1, 5))
    pixels = models.pictures(count)
    wanted, found = (opened.runner(["c", "s", "s"])(pixels) for opened in (one, five))
    assert wanted.keys() == found.keys() == {"c", "s"}
    for name, values in wanted.items():
        assert len(values) == count
        np.testing.assert_allclose(found[name], values, atol=1e-6)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_where_the_channels_lie_is_seen(write, layout):
    path = write("m.onnx", undescribed_onnx(layout))
    found = open_model(path, "squash", "tf")
    assert (found.layout, found.size, found.channels) == (layout, models.SIZE, 3)
    assert open_model(path, None, models.TF).preprocess == models.TF  # a whole one brings its resizing along
    with pytest.raises(UsageError, match=r"m\.onnx"):
        open_model(path, "squash", None)


def test_what_is_no_picture_is_refused(write):
    with pytest.raises(InputError, match=r"[am]\.(onnx|tflite)"):
        open_model(write("a.tflite", written(OPS["dense"])), "squash", "tf")
    with pytest.raises(InputError, match=r"b\.tflite.*\(1, 8, 6, 4\)"):
        open_model(write("b.tflite", written(OPS["conv"])), "squash", "tf")


def test_a_file_says_what_its_outputs_mean(write):
    found = open_model(write("m.tflite", models.float_tflite("logits")), None, None)
    assert found.answers == Answers("classes", "logits")


def test_two_files_see_the_same_pictures(write, tmp_path):
    folder = write_pictures(tmp_path / "photos", 4)
    path = write("m.tflite", models.float_tflite())
    squashed, cropped = open_model(path, None, None), open_model(path, "crop", None)
    assert load_images(folder, (squashed, squashed), 3, 0, lambda *_: None).shape == (3, *models.SIZE, 3)
    with pytest.raises(InputError, match=r"m\.tflite.*--resize"):
        load_images(folder, (squashed, cropped), 3, 0, lambda *_: None)
    larger = write("l.tflite", models.write_tflite(models.graph(size=(32, 12)), "float32"))
    with pytest.raises(InputError, match=r"q\.tflite .*\(16, 12\).*l\.tflite .*\(32, 12\)"):
        diagnose(write("q.tflite", models.int8_tflite()), larger, folder, preprocess=models.PIXELS)
