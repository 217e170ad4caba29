"""Folding keeps the function and leaves only what a file format has ops for."""

import numpy as np
import pytest
from graph_reference import run_graph

from mbn_deploy.graph.fold import fold
from mbn_deploy.graph.graph import Graph, Op

RNG = np.random.default_rng(0)
IMAGE = (2, 9, 8, 4)


def rand(*shape):
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def affine(name, source, channels, offset=True):
    shift = RNG.normal(0, 1, channels) if offset else np.zeros(channels)
    return Op("affine", name, (source,), name, scale=RNG.uniform(0.5, 2, channels), offset=shift)


def conv(name, source, **more):
    return Op("conv", name, (source,), name, **{"kernel": rand(3, 3, 4, 4), "pads": (1, 1, 1, 1), **more})


def graph(*ops, source=IMAGE, **shapes):
    same = dict.fromkeys((op.output for op in ops), source)
    return Graph("test", "x", ops[-1].output, tuple(ops), {"x": source, **same, **shapes})


PADDED = (2, 11, 10, 4)
CASES = {  # name: (graph, kinds that are left)
    "batch norm behind": (graph(conv("c", "x"), affine("n", "c", 4), Op("relu6", "r", ("n",), "r")), ["conv"]),
    "depthwise": (
        graph(
            Op("depthwise", "d", ("x",), "d", kernel=rand(3, 3, 4, 1), pads=(1, 1, 1, 1)),
            affine("n", "d", 4),
            Op("relu", "r", ("n",), "r"),
        ),
        ["depthwise"],
    ),
    "affine chain": (graph(conv("c", "x"), affine("n", "c", 4), affine("m", "n", 4)), ["conv"]),
    "affine in front, no padding": (
        graph(
            Op("relu", "r", ("x",), "r"), affine("n", "r", 4), conv("c", "n", kernel=rand(1, 1, 4, 4), pads=(0,) * 4)
        ),
        ["relu", "conv"],
    ),
    "affine in front of padding stays": (
        graph(Op("relu", "r", ("x",), "r"), affine("n", "r", 4), conv("c", "n")),
        ["relu", "depthwise", "conv"],
    ),
    "scale in front of padding": (
        graph(Op("relu", "r", ("x",), "r"), affine("n", "r", 4, offset=False), conv("c", "n")),
        ["relu", "conv"],
    ),
    "padding": (
        graph(Op("pad", "p", ("x",), "p", pads=(1, 1, 1, 1)), conv("c", "p", pads=(0,) * 4), p=PADDED),
        ["conv"],
    ),
    "padding read twice": (
        graph(
            Op("pad", "p", ("x",), "p", pads=(1, 1, 1, 1)),
            conv("c", "p", pads=(0,) * 4),
            conv("d", "p", pads=(0,) * 4),
            Op("add", "a", ("c", "d"), "a"),
            p=PADDED,
        ),
        ["conv", "conv", "add"],
    ),
    "padding before a pool stays": (
        graph(
            Op("pad", "p", ("x",), "p", pads=(1, 1, 1, 1)),
            Op("max_pool", "m", ("p",), "m", window=(3, 3)),
            p=PADDED,
        ),
        ["pad", "max_pool"],
    ),
    "linear tensor read twice": (
        graph(conv("c", "x"), Op("relu", "r", ("c",), "r"), Op("add", "a", ("c", "r"), "a")),
        ["conv", "relu", "add"],
    ),
    "residual and relu": (
        graph(conv("c", "x"), Op("add", "a", ("c", "x"), "a"), Op("relu", "r", ("a",), "r")),
        ["conv", "add"],
    ),
    "vector head": (
        graph(
            Op("global_average_pool", "g", ("x",), "g"),
            affine("n", "g", 4),
            Op("relu", "r", ("n",), "r"),
            affine("m", "r", 4),
            Op("dense", "d", ("m",), "d", kernel=rand(4, 3), bias=rand(3)),
            g=(2, 4), n=(2, 4), r=(2, 4), m=(2, 4), d=(2, 3),
        ),
        ["global_average_pool", "reshape", "depthwise", "reshape", "relu", "dense"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_function_stays_the_same(name):
    before, kinds = CASES[name]
    after = fold(before)
    assert [op.kind for op in after.ops] == kinds
    assert all(op.bias is not None for op in after.weighted())
    assert (after.input, after.output) == (before.input, before.output)
    x = rand(*IMAGE) * 3
    expected, got = run_graph(before, x), run_graph(after, x)
    for tensor in set(expected) & set(got):  # what kept its name kept its value
        np.testing.assert_allclose(got[tensor], expected[tensor], atol=1e-5)


def test_folding_twice_changes_nothing():
    once = fold(CASES["vector head"][0])
    assert fold(once).ops == once.ops
