"""The tables of the writers have a row for every kind of op, or it is known why not."""

from typing import get_args

from mbn_deploy.export.onnx.lowerings.table import FLOAT_LOWERINGS, INTEGER_LOWERINGS
from mbn_deploy.export.tflite.lowerings.table import LOWERINGS
from mbn_deploy.graph.graph import OpKind
from mbn_deploy.graph.quantized import FLOAT_ONLY

KINDS = set(get_args(OpKind))
FOLDED = {"affine", "channel_map"}  # merged into convolutions before anything is written


def test_every_kind_of_op_is_written():
    assert KINDS - set(FLOAT_LOWERINGS) == FOLDED
    # A hard sigmoid is absorbed into convolutions before integers are written.
    assert KINDS - set(INTEGER_LOWERINGS) == FOLDED | FLOAT_ONLY | {"hard_sigmoid"}
    assert KINDS - set(LOWERINGS) == FOLDED | {"bound"}  # only calibrated float graphs have it
    assert set(FLOAT_LOWERINGS) | set(INTEGER_LOWERINGS) | set(LOWERINGS) <= KINDS
