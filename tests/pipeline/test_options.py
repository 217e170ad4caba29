"""Options of the export that change what is in one kind of file."""

import onnx
from export_models import LABELS, small_model, write_labelled, write_pictures

from mbn_deploy.pipeline.export import export_model


def test_onnx_activations_for_arm(tmp_path):
    bundle = export_model(
        small_model(), tmp_path / "dist", calibration=write_pictures(tmp_path / "photos"),
        evaluate=write_labelled(tmp_path / "labelled"), labels=LABELS,
        formats=["onnx"], precisions=["int8"], onnx_activations="int8",
    ).bundle  # fmt: skip
    made = onnx.load(bundle.path(bundle.file("onnx", "int8")))
    types = {i.name: i.data_type for i in made.graph.initializer}
    assert {types[n.input[2]] for n in made.graph.node if n.op_type == "QuantizeLinear"} == {onnx.TensorProto.INT8}
