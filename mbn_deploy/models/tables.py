"""MobileNet V1, V2 and V3 as tables: one row per block, with its input resolution (at 224) beside it.

Sources: V1 arXiv 1704.04861 table 1; V2 arXiv 1801.04381 table 2; V3 arXiv 1905.02244 tables 1 and 2. The
*minimalistic* forms of V3 (3x3 kernels, no squeeze-and-excitation, ReLU instead of h-swish) come from the reference
implementation of the V3 authors, not from the paper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mbn_deploy.errors import UnknownNameError

Activation = Literal["relu", "relu6", "hard_swish"]
Rounding = Literal["truncate", "divisible"]


@dataclass(frozen=True)
class Separable:
    """Depthwise separable convolution of V1: 3x3 depthwise, then pointwise; ReLU6 after both."""

    filters: int
    stride: int


@dataclass(frozen=True)
class Bottleneck:
    """Inverted residual of V2 and V3: expansion, depthwise, (squeeze-and-excitation), linear projection.

    `expansion` multiplies the block's input channels, `None` if there is no expansion layer. `se` is the reduction
    ratio of squeeze-and-excitation (4 in the paper), `None` if there is none.
    """

    expansion: float | None
    filters: int
    stride: int
    kernel: int = 3
    se: int | None = None
    activation: Activation = "relu6"


Row = Separable | Bottleneck


@dataclass(frozen=True)
class Network:
    """A network before width, resolution and classes are chosen.

    `stem` and `stem_scaled`: filters of the first convolution, and whether alpha scales them. `last` or
    `last_expansion`: filters of the pointwise convolution before pooling, or their ratio to the last row's channels.
    `last_point`: filters of V3's convolution after pooling. Alpha scales `last` and `last_point` only above 1.
    `rescaling`: the network rescales pixels itself. `dropout`: rate in front of the classifier.
    """

    name: str
    rows: tuple[Row, ...]
    stem: int
    stem_scaled: bool
    activation: Activation
    rounding: Rounding
    last: int | None = None
    last_expansion: int | None = None
    last_point: int | None = None
    rescaling: bool = False
    dropout: float = 0.0
    paper: str = ""


def _v2_rows() -> tuple[Row, ...]:
    #        t  c   n  s      input at 224
    groups = (
        (6, 24, 2, 2),  # 112
        (6, 32, 3, 2),  # 56
        (6, 64, 4, 2),  # 28
        (6, 96, 3, 1),  # 14
        (6, 160, 3, 2),  # 14
        (6, 320, 1, 1),  # 7
    )
    repeated = (Bottleneck(t, c, s if i == 0 else 1) for t, c, n, s in groups for i in range(n))
    return (Bottleneck(None, 16, 1), *repeated)  # 112


MOBILENET_V1 = Network(
    name="mobilenet_v1",
    rows=(
        Separable(64, 1),  # 112
        Separable(128, 2),  # 112
        Separable(128, 1),  # 56
        Separable(256, 2),  # 56
        Separable(256, 1),  # 28
        Separable(512, 2),  # 28
        Separable(512, 1),  # 14
        Separable(512, 1),  # 14
        Separable(512, 1),  # 14
        Separable(512, 1),  # 14
        Separable(512, 1),  # 14
        Separable(1024, 2),  # 14
        Separable(1024, 1),  # 7
    ),
    stem=32,
    stem_scaled=True,
    activation="relu6",
    rounding="truncate",
    dropout=0.001,
    paper="arXiv 1704.04861",
)

MOBILENET_V2 = Network(
    name="mobilenet_v2",
    rows=_v2_rows(),
    stem=32,
    stem_scaled=True,
    activation="relu6",
    rounding="divisible",
    last=1280,
    paper="arXiv 1801.04381",
)

_HS: Activation = "hard_swish"

MOBILENET_V3_SMALL = Network(
    name="mobilenet_v3_small",
    rows=(
        Bottleneck(None, 16, 2, 3, 4, "relu"),  # 112
        Bottleneck(72 / 16, 24, 2, 3, None, "relu"),  # 56
        Bottleneck(88 / 24, 24, 1, 3, None, "relu"),  # 28
        Bottleneck(4, 40, 2, 5, 4, _HS),  # 28
        Bottleneck(6, 40, 1, 5, 4, _HS),  # 14
        Bottleneck(6, 40, 1, 5, 4, _HS),  # 14
        Bottleneck(3, 48, 1, 5, 4, _HS),  # 14
        Bottleneck(3, 48, 1, 5, 4, _HS),  # 14
        Bottleneck(6, 96, 2, 5, 4, _HS),  # 14
        Bottleneck(6, 96, 1, 5, 4, _HS),  # 7
        Bottleneck(6, 96, 1, 5, 4, _HS),  # 7
    ),
    stem=16,
    stem_scaled=False,
    activation=_HS,
    rounding="divisible",
    last_expansion=6,
    last_point=1024,
    rescaling=True,
    dropout=0.2,
    paper="arXiv 1905.02244",
)

MOBILENET_V3_LARGE = Network(
    name="mobilenet_v3_large",
    rows=(
        Bottleneck(None, 16, 1, 3, None, "relu"),  # 112
        Bottleneck(4, 24, 2, 3, None, "relu"),  # 112
        Bottleneck(3, 24, 1, 3, None, "relu"),  # 56
        Bottleneck(3, 40, 2, 5, 4, "relu"),  # 56
        Bottleneck(3, 40, 1, 5, 4, "relu"),  # 28
        Bottleneck(3, 40, 1, 5, 4, "relu"),  # 28
        Bottleneck(6, 80, 2, 3, None, _HS),  # 28
        Bottleneck(2.5, 80, 1, 3, None, _HS),  # 14
        Bottleneck(2.3, 80, 1, 3, None, _HS),  # 14
        Bottleneck(2.3, 80, 1, 3, None, _HS),  # 14
        Bottleneck(6, 112, 1, 3, 4, _HS),  # 14
        Bottleneck(6, 112, 1, 3, 4, _HS),  # 14
        Bottleneck(6, 160, 2, 5, 4, _HS),  # 14
        Bottleneck(6, 160, 1, 5, 4, _HS),  # 7
        Bottleneck(6, 160, 1, 5, 4, _HS),  # 7
    ),
    stem=16,
    stem_scaled=False,
    activation=_HS,
    rounding="divisible",
    last_expansion=6,
    last_point=1280,
    rescaling=True,
    dropout=0.2,
    paper="arXiv 1905.02244",
)


def _minimalistic(network: Network) -> Network:
    rows = tuple(
        replace(row, kernel=3, se=None, activation="relu") for row in network.rows if isinstance(row, Bottleneck)
    )
    return replace(network, name=f"{network.name}_minimalistic", rows=rows, activation="relu")


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        MOBILENET_V1,
        MOBILENET_V2,
        MOBILENET_V3_SMALL,
        MOBILENET_V3_LARGE,
        _minimalistic(MOBILENET_V3_SMALL),
        _minimalistic(MOBILENET_V3_LARGE),
    )
}


# The functions of keras.applications that build the networks.
KERAS_NAMES = {
    "MobileNet": "mobilenet_v1",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3Small": "mobilenet_v3_small",
    "MobileNetV3Large": "mobilenet_v3_large",
}


def network(name: str) -> Network:
    """Return the network called `name`, or as `keras.applications` calls it: `mobilenet_v2` or `MobileNetV2`.

    Raises `UnknownNameError` with similar names if there is none.
    """
    try:
        return NETWORKS[KERAS_NAMES.get(name, name)]
    except KeyError:
        raise UnknownNameError("model", name, [*NETWORKS, *KERAS_NAMES]) from None
