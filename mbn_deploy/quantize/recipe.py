"""Recipes: how a model is quantized, as a named value that the manifest keeps.

A recipe is everything that `quantize` depends on beside the graph and the images. The ladder is the order in which the
accuracy guard tries recipes, beginning with those whose files are fastest on the device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from mbn_deploy.errors import UnknownNameError, UsageError
from mbn_deploy.graph.quantized import INT16X8, ActivationType
from mbn_deploy.quantize.integers import Granularity

HardSwishForm = Literal["automatic", "duplicated_conv", "single_conv"]
RangeMethod = Literal["min-max", "mse"]


def _check_known(what: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise UnknownNameError(what, str(value), known)


@dataclass(frozen=True)
class Recipe:
    """A way to quantize.

    Attributes:
        name: what the command line and the manifest call it.
        granularity: of the weights.
        hard_swish: the integer form of h-swish (see `passes.hard_swish`). `duplicated_conv` writes the convolution
            before it twice and allows its channels to be equalized, `single_conv` does not, `automatic` duplicates
            it where that pays (`duplication_pays`) and the other form would lose more than `duplicate_threshold`.
        duplicate_threshold: a share of a channel's variance, 0 to 1 (`single_conv_noise`). The convolution that reads
            the picture is the most sensitive one and is duplicated whatever the threshold.
        ranges: how the ranges of activations are chosen: all that calibration saw, or the least mean squared error of
            rounding and saturation. Feature vectors always keep all that was seen.
        absorb, equalize, split_vectors, correct_biases: whether the passes of these names run.
        float_blocks: how many of the first blocks compute in float.
        float_layers: names of layers that compute in float, too.
        activations: `int8`, or `int16` for all of them (TFLite only).
        int16_layers: names of layers whose activations have 16 bits among others of 8.

    Raises:
        UnknownNameError: a granularity, form, method or type that does not exist.
        UsageError: a threshold outside 0 to 1, or a negative number of blocks.
    """

    name: str
    granularity: Granularity = "per-channel"
    hard_swish: HardSwishForm = "automatic"
    duplicate_threshold: float = 0.0
    ranges: RangeMethod = "min-max"
    absorb: bool = True
    equalize: bool = True
    split_vectors: bool = True
    correct_biases: bool = True
    float_blocks: int = 0
    float_layers: tuple[str, ...] = ()
    activations: ActivationType = "int8"
    int16_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_known("granularity", self.granularity, get_args(Granularity))
        _check_known("h-swish form", self.hard_swish, get_args(HardSwishForm))
        _check_known("type of activations", self.activations, get_args(ActivationType))
        _check_known("range method", self.ranges, get_args(RangeMethod))
        if not 0 <= self.duplicate_threshold <= 1:
            raise UsageError(f"duplicate_threshold is a share of the variance, 0 to 1, not {self.duplicate_threshold}")
        if self.float_blocks < 0:
            raise UsageError(f"float_blocks must be 0 or more, not {self.float_blocks}")

    @property
    def mixed(self) -> bool:
        """Whether some layers compute in float, or on activations of 16 bits while others have 8."""
        return bool(self.float_blocks or self.float_layers or self.int16_layers)

    @property
    def requested_precision(self) -> str:
        """The precision in a request that this recipe serves: `int8` (mixed recipes, too) or `int16x8`."""
        return INT16X8 if self.activations == "int16" else "int8"

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values."""
        return {
            **asdict(self),
            "float_layers": list(self.float_layers),
            "int16_layers": list(self.int16_layers),
        }


PLAIN = Recipe(
    "plain",
    hard_swish="single_conv",
    absorb=False,
    equalize=False,
    split_vectors=False,
    correct_biases=False,
)
# Cutting off rare values is closer to float where tensors have long tails.
INT8 = Recipe("int8", ranges="mse")
# Few duplicated convolutions, and no split vectors, which make the file a quarter larger.
FAST = replace(INT8, name="int8-fast", duplicate_threshold=0.08, split_vectors=False)
# The first block sees the largest images with the fewest channels: it is little work, and much depends on it. Without
# its error, the duplicated convolutions that matter least are left out.
MIXED = replace(INT8, name="int8-mixed", float_blocks=1, duplicate_threshold=0.04, split_vectors=False)
# Every h-swish has two convolutions: closer to float, and slower.
TWIN = replace(INT8, name="int8-twin", hard_swish="duplicated_conv")
MIXED_TWIN = replace(TWIN, name="int8-mixed-twin", float_blocks=1)
MIXED_MORE = replace(TWIN, name="int8-mixed-3", float_blocks=3)

# 16 bits have levels enough for every channel, so no vector is split. Not part of the ladder, only made on request:
# XNNPACK has no kernels for it, and CPUs run float32 faster.
INT16 = Recipe(INT16X8, activations="int16", split_vectors=False)

LADDER: tuple[Recipe, ...] = (FAST, INT8, MIXED, TWIN, MIXED_TWIN, MIXED_MORE)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (PLAIN, *LADDER)}


def recipe(name: str) -> Recipe:
    """Return the recipe called `name`; raises `UnknownNameError` with the near names."""
    _check_known("recipe", name, RECIPES)
    return RECIPES[name]
