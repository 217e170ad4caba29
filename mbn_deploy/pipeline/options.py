"""What an export is asked for: checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from mbn_deploy.errors import UnknownNameError, UsageError
from mbn_deploy.export.encode import DEFAULT_PRECISIONS, PRECISIONS, wanted_files
from mbn_deploy.export.onnx.qdq import NO_INT16, ActivationType
from mbn_deploy.export.tflite.metadata import NOTHING_SAID, About
from mbn_deploy.export.tflite.writer import InputType
from mbn_deploy.graph.quantized import INT16X8
from mbn_deploy.manifest import FileFormat, Filter, Layout, Preprocess, Resize
from mbn_deploy.quantize.integers import Granularity
from mbn_deploy.quantize.recipe import RECIPES

Names = str | Path | Sequence[str]  # a text file, or the lines themselves
FORMATS: tuple[str, ...] = tuple(PRECISIONS)
ALL_PRECISIONS = PRECISIONS["tflite"]


@dataclass(frozen=True)
class Request:
    """The options of `pipeline.export`, which describes them. Raises `UsageError` for what makes no sense."""

    name: str | None = None
    size: int | tuple[int, int] | None = None
    preprocess: Preprocess | None = None
    resize: str | None = None
    crop_fraction: float | None = None
    filter: str | None = None
    formats: Sequence[str] = FORMATS
    precisions: Sequence[str] = DEFAULT_PRECISIONS
    calibration: str | Path | None = None
    calibration_count: int = 200
    seed: int = 0
    evaluate: str | Path | None = None
    evaluate_resize: str | None = None
    exclude: str | Path | None = None
    labels: Names | None = None
    synsets: Names | None = None
    input_dtype: str = "uint8"
    layout: str = "nchw"
    onnx_activations: str = "uint8"
    batch: int = 1
    overwrite: bool = False
    recipe: str | None = None
    granularity: str = "per-channel"
    float_layers: Sequence[str] = ()
    int16_layers: Sequence[str] = ()
    max_drop: float | None = None
    about: About = NOTHING_SAID

    def __post_init__(self) -> None:
        _known("format", self.formats, FORMATS)
        _known("precision", self.precisions, ALL_PRECISIONS)
        _known("input type", [self.input_dtype], get_args(InputType))
        _known("layout", [self.layout], get_args(Layout))
        _known("type of ONNX activations", [self.onnx_activations], get_args(ActivationType))
        _known("resize", [v for v in (self.resize, self.evaluate_resize) if v is not None], get_args(Resize))
        _known("filter", [] if self.filter is None else [self.filter], get_args(Filter))
        _known("recipe", [] if self.recipe is None else [self.recipe], list(RECIPES))
        _known("granularity", [self.granularity], get_args(Granularity))
        self._check_guard()
        self._check_wide()
        if self.batch < 1:
            raise UsageError(f"batch must be at least 1, not {self.batch}")
        if not self.files():
            written = "; ".join(f"{known} as {', '.join(those)}" for known, those in PRECISIONS.items())
            raise UsageError(f"these formats and precisions give no file; there are {written}")
        if self.quantized and self.calibration is None:
            others = ",".join(p for p in self.precisions if p not in self.quantized) or "float32"
            said = " and ".join(self.quantized)
            raise UsageError(
                f"{said} {'needs' if len(self.quantized) == 1 else 'need'} calibration images: give a folder of them "
                f"(--calibrate), or leave {said} out (--precisions {others})"
            )

    def _check_wide(self) -> None:
        """Activations of 16 bits."""
        if INT16X8 in self.precisions and "tflite" not in self.formats:
            raise UsageError(f"{INT16X8} is written as TFLite only: {NO_INT16}")
        if self.int16_layers and "onnx" in self.formats:
            raise UsageError(f"--int16-layers: {NO_INT16}; leave ONNX out (--formats tflite)")
        if (self.int16_layers or self.float_layers) and not self.int8:
            raise UsageError("--int16-layers and --float-layers are for int8 files, and none is asked for")
        if self.input_dtype == "int16" and self.quantized != (INT16X8,):
            raise UsageError(f"an input of int16 is for {INT16X8} files, and for nothing beside them that is quantized")

    def _check_guard(self) -> None:
        if self.max_drop is None:
            return
        if not 0 <= self.max_drop < 100:
            raise UsageError(f"a largest drop is a number of percentage points from 0 to 100, not {self.max_drop}")
        if self.evaluate is None or not self.quantized:
            raise UsageError(
                "a largest drop (--max-drop) is measured on images that say so (--evaluate FOLDER), for int8 "
                f"and {INT16X8} files"
            )

    @property
    def int8(self) -> bool:
        """Whether there is an int8 file to make."""
        return "int8" in self.precisions

    @property
    def quantized(self) -> tuple[str, ...]:
        """The precisions whose files take their ranges from calibration images."""
        return tuple(precision for precision in ("int8", INT16X8) if precision in self.precisions)

    @property
    def input_type(self) -> InputType:
        """`input_dtype`, which was checked."""
        return cast("InputType", self.input_dtype)

    @property
    def activation_type(self) -> ActivationType:
        """`onnx_activations`, which was checked."""
        return cast("ActivationType", self.onnx_activations)

    @property
    def onnx_layout(self) -> Layout:
        """`layout`, which was checked."""
        return cast("Layout", self.layout)

    @property
    def geometry(self) -> dict[str, Any]:
        """The fields of `Preprocess` that were given one by one; they win over `preprocess`."""
        given = {"resize": self.resize, "crop_fraction": self.crop_fraction, "filter": self.filter}
        return {key: value for key, value in given.items() if value is not None}

    def files(self) -> list[tuple[FileFormat, str]]:
        """(format, precision) of every file, in the order in which they are made."""
        return wanted_files(self.formats, self.precisions)


def _known(what: str, values: Sequence[str], known: Sequence[str]) -> None:
    for value in values:
        if value not in known:
            raise UnknownNameError(what, value, known)
