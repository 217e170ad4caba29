"""How a model is quantized, as a value: named, comparable, kept in the manifest.

A recipe is everything that `quantize` does beyond the graph and the images. The ladder is the order
in which the accuracy guard tries them: the cheapest on the device first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from mbn_deploy.errors import UnknownNameError, UsageError
from mbn_deploy.graph.quantized import INT16X8, ActivationType
from mbn_deploy.quantize.integers import Granularity

HardSwishForm = Literal["economical", "twin", "shared"]
RangeMethod = Literal["min-max", "percentile", "mse", "entropy"]


_LAYERS = ("float_layers", "int16_layers")  # fields that name layers: lists in JSON


def _known(what: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise UnknownNameError(what, str(value), known)


@dataclass(frozen=True)
class Recipe:
    """A way to quantize.

    `granularity` is that of the weights. `hard_swish`: `twin` writes the convolution before an h-swish
    twice and can equalize it, `shared` does not, `economical` has twins where they pay
    (`hard_swish.pays_twice`) and the shared form would take more than `twin_above` of a channel's variance
    (`hard_swish.shared_noise`; at the picture's convolution always). `one_sided`, `two_sided` and `vector` say
    how ranges are taken of ReLU outputs, of linear tensors and of feature vectors (one value a channel).
    `absorb`, `equalize`, `split_vectors` and `correct_biases` are the steps of those names. `float_blocks`: so many
    first blocks compute in float; `float_layers`: and the layers of these names. `activations`: of 8 bits, or all
    of 16 (TFLite only); `int16_layers`: those of these layers have 16 bits.
    """

    name: str
    granularity: Granularity = "per-channel"
    hard_swish: HardSwishForm = "economical"
    twin_above: float = 0.0
    one_sided: RangeMethod = "min-max"
    two_sided: RangeMethod = "min-max"
    vector: RangeMethod = "min-max"
    absorb: bool = True
    equalize: bool = True
    split_vectors: bool = True
    correct_biases: bool = True
    float_blocks: int = 0
    float_layers: tuple[str, ...] = ()
    activations: ActivationType = "int8"
    int16_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _known("granularity", self.granularity, get_args(Granularity))
        _known("h-swish form", self.hard_swish, get_args(HardSwishForm))
        _known("type of activations", self.activations, get_args(ActivationType))
        for method in (self.one_sided, self.two_sided, self.vector):
            _known("range method", method, get_args(RangeMethod))
        if not 0 <= self.twin_above <= 1:
            raise UsageError(f"twins above: a share of the variance, 0 to 1, not {self.twin_above}")
        if self.float_blocks < 0:
            raise UsageError(f"float blocks: 0 or more, not {self.float_blocks}")

    @property
    def mixed(self) -> bool:
        """Whether some layers stay in float, or have activations of 16 bits among others of 8."""
        return bool(self.float_blocks or self.float_layers or self.int16_layers)

    @property
    def asked(self) -> str:
        """The precision by which files of this recipe are asked for: `int8`, mixed ones too, or `int16x8`."""
        return INT16X8 if self.activations == "int16" else "int8"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), **{key: list(getattr(self, key)) for key in _LAYERS}}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Recipe:
        """The inverse of `to_dict`; raises `UsageError` for keys and values that no recipe has."""
        for key in data:
            _known("key of a recipe", key, list(cls.__dataclass_fields__))
        if "name" not in data:
            raise UsageError("a recipe needs a name")
        return cls(**{**data, **{key: tuple(data.get(key, ())) for key in _LAYERS}})

    def with_ranges(self, method: RangeMethod) -> Recipe:
        """The same with one range method for every kind of tensor."""
        return replace(self, one_sided=method, two_sided=method, vector=method)


PLAIN = Recipe("plain", hard_swish="shared", absorb=False, equalize=False, split_vectors=False, correct_biases=False)
# Ranges cut off what is rare: it is closer where tensors have long tails. Vectors keep theirs, whose margins are
# there because values beyond the calibration set are not rare.
INT8 = Recipe("int8", one_sided="mse", two_sided="mse")
# Few twins, and no vector in parts, which makes the file a quarter larger.
FAST = replace(INT8, name="int8-fast", twin_above=0.08, split_vectors=False)
# The first block sees the largest images with the fewest channels: little work, and much depends on it. Without
# its error, the twins that change least are left out.
MIXED = replace(INT8, name="int8-mixed", float_blocks=1, twin_above=0.04, split_vectors=False)
# Every h-swish has two convolutions: closer to float, slower.
TWIN = replace(INT8, name="int8-twin", hard_swish="twin")
MIXED_TWIN = replace(TWIN, name="int8-mixed-twin", float_blocks=1)
MIXED_MORE = replace(TWIN, name="int8-mixed-3", float_blocks=3)

# Levels enough for every channel: nothing needs a vector in parts. A wish of its own, and no rung: XNNPACK has no
# kernels for it, and a CPU runs float32 faster.
INT16 = Recipe(INT16X8, activations="int16", split_vectors=False)

LADDER: tuple[Recipe, ...] = (FAST, INT8, MIXED, TWIN, MIXED_TWIN, MIXED_MORE)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (PLAIN, *LADDER)}


def recipe(name: str) -> Recipe:
    """The recipe called `name`; raises `UnknownNameError` with the near names."""
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    return RECIPES[name]
