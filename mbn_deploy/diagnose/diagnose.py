"""Which layers of an int8 file hurt: every tensor beside the float file's, on real images.

Both files run in their interpreters, and every tensor that both have is compared: that is the error
as it accumulates. What a layer adds by itself is computed from the quantized file's own weights and
scales: the operations between compared tensors get the float file's exact values (brought to the scale
and the centre that the quantized file keeps each channel at), and what they compute is rounded wherever
the file rounds. Put into the float network in place of the exact tensor, that result shows what this
layer alone does to the output; the diagnosis is sorted by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbn_deploy.arrays import Doubles, Floats, Pixels
from mbn_deploy.diagnose.channel_factors import TensorFactors, bias_shift, in_reference, shown_shift, weight_factors
from mbn_deploy.diagnose.file_graph import FileGraph, FileOp
from mbn_deploy.diagnose.layer_errors import ChannelSums, Diagnosis, LayerError, badness, divergences, spread
from mbn_deploy.diagnose.matching import PADDING, STORAGE, MatchedTensor, is_part, match, movable
from mbn_deploy.diagnose.model_file import DiagnosedModel, load_images, open_model
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.graph.quantized import QuantParams
from mbn_deploy.manifest import Preprocess
from mbn_deploy.progress import Progress, silent

STEP = "compare layers"
DEFAULT_COUNT = 16
_CHUNK_BYTES = 128 * 2**20  # of the float network's tensors at once
_MAX_CHUNK = 16
_LEAST_MATCHED = 0.25  # of the float file's tensors; int8 V3 in its most rewritten form keeps three quarters


def diagnose(
    file: str | Path,
    reference: str | Path,
    data: str | Path,
    *,
    count: int = DEFAULT_COUNT,
    seed: int = 0,
    resize: str | None = None,
    preprocess: str | Preprocess | None = None,
    progress: Progress = silent,
) -> Diagnosis:
    """The quantized `file` against the float `reference` (.tflite or .onnx, each) on images below the folder `data`.

    `count` images are used, chosen by a hash of `seed` and name. `resize` and `preprocess` (as for
    `Classifier.open`) are for files that don't say how pictures become their input.

    Raises `InputError` for files and images that cannot be read, and for files that have no tensor in
    common; `UsageError` for a reference that is quantized, a file that is not, and where nothing says
    how pictures become an input.
    """
    quantized, exact = (open_model(Path(path), resize, preprocess) for path in (file, reference))
    points = _points(quantized, exact)
    images = load_images(Path(data), (quantized, exact), count, seed, progress)
    comparison = _Comparison(quantized, exact, points)
    done = 0
    for pixels in _chunks(images, exact.graph):
        comparison.add(pixels)
        done += len(pixels)
        progress(STEP, done, len(images))
    return comparison.result(done)


def _points(quantized: DiagnosedModel, exact: DiagnosedModel) -> list[MatchedTensor]:
    if quantized.size != exact.size:
        raise InputError(
            f"{quantized.where} takes pictures of {quantized.size}, {exact.where} of {exact.size}: "
            "they are not of one model"
        )
    points = match(quantized.graph, exact.graph)
    if any(point.name in exact.graph.params for point in points):
        raise UsageError(f"{exact.where} is quantized; the reference must be a float file of the same model")
    if not quantized.graph.params:
        raise UsageError(f"{quantized.where} is not quantized: there is nothing to compare")
    whole = [op.output for op in exact.graph.ops if not op.moves_only and not is_part(op.output, exact.graph)]
    if len(points) < _LEAST_MATCHED * len(whole):
        raise InputError(
            f"{quantized.where} and {exact.where} have {len(points) or 'none'} of {len(whole)} tensors in common, by "
            "name and shape; layers are matched by name, so both files must come from one export of one model"
        )
    return points


def _chunks(images: Pixels, network: FileGraph) -> Iterator[Pixels]:
    """As many images at once as memory allows."""
    bytes_each = 4 * sum(int(np.prod(network.shapes.get(op.output, (0,))[1:])) for op in network.ops)
    size = int(np.clip(_CHUNK_BYTES // max(bytes_each, 1), 1, _MAX_CHUNK))
    for start in range(0, len(images), size):
        yield images[start : start + size]


@dataclass(eq=False)
class _Found:
    """What is summed up of one point."""

    accumulated: ChannelSums
    alone: ChannelSums
    factors: TensorFactors
    low: int = 0
    high: int = 0
    effect: float = 0.0
    known: bool = True

    @classmethod
    def of(cls, point: MatchedTensor, channels: int) -> _Found:
        weighted = any(op.kernel is not None for op in point.segment)
        return cls(ChannelSums(channels), ChannelSums(channels), TensorFactors(channels, weighted=weighted))


class _Comparison:
    """Both files open, and the sums over the images so far."""

    def __init__(self, quantized: DiagnosedModel, exact: DiagnosedModel, points: Sequence[MatchedTensor]) -> None:
        self.quantized, self.exact, self.points = quantized, exact, list(points)
        self._by_stored = {point.stored: point for point in self.points}
        self._integer_run = quantized.runner([*self._by_stored, quantized.graph.output])
        self._float_run = exact.runner([*(p.name for p in self.points), exact.graph.output])
        shapes = exact.graph.shapes
        self.found = {point.stored: _Found.of(point, shapes[point.name][-1]) for point in self.points}
        # What only moves or stores values anew, by its output.
        self._handed_on = {
            op.output: op.inputs[0]
            for op in quantized.graph.ops
            if (op.moves_only or op.kind in PADDING | STORAGE) and op.output not in self._by_stored
        }
        self._last_use = {name: at for at, op in enumerate(quantized.graph.ops) for name in op.inputs}
        self._whole = all(op.run is not None for op in exact.graph.ops)
        self._layers = {op.layer: op for op in exact.graph.ops if op.kernel is not None}
        # By tensor of the quantized file: factors against float, and those that a layer's weights show.
        self._factors: dict[str, Doubles] = {quantized.graph.input: _input_factors(quantized, exact)}
        self._by_weights: dict[str, Doubles | None] = {}
        self._by_bias: dict[str, Doubles | None] = {}
        # How much lower the quantized file keeps each channel: in its own units, and of layers in those of the other.
        self._shifts: dict[str, Doubles | None] = {}
        self._lowered: dict[str, Doubles | None] = {}
        self._movable = movable(quantized.graph)
        self._integers: dict[str, Floats] = {}
        self._divergences: list[float] = []
        self._agreements: list[bool] = []

    def add(self, pixels: Pixels) -> None:
        """One chunk of images, uint8 (N, H, W, C)."""
        real = self._float_run(pixels)
        integer = self._integers = self._integer_run(pixels)
        self._outputs(real[self.exact.graph.output], integer[self.quantized.graph.output])
        base = self._base(pixels) if self._whole else None
        self._alone(pixels, real, base)
        for point in self.points:
            r = real[point.name]
            q = self._raised(integer[point.stored].reshape(r.shape), point)
            self.found[point.stored].accumulated.add(_floored(r, point), _floored(q, point))

    def _kept(self, op: FileOp, params: QuantParams) -> bool:
        """Whether the op hands on integers that have these params already: nothing is rounded once more."""
        source = op.inputs[0]
        while source in self._handed_on:
            source = self._handed_on[source]
        return op.output in self._handed_on and self.quantized.graph.params.get(source) == params

    def _outputs(self, expected: Floats, found: Floats) -> None:
        expected, found = expected.reshape(len(expected), -1), found.reshape(len(found), -1)
        self._divergences += list(self._divergence(expected, found))
        self._agreements += list(self.exact.predicted(expected) == self.exact.predicted(found))

    def _divergence(self, expected: Floats, found: Floats) -> Doubles:
        e, f = (self.exact.probabilities(x.reshape(len(x), -1)) for x in (expected, found))
        return divergences(e, f, independent=self.exact.scores == "sigmoid" or e.shape[1] == 1)

    def _base(self, pixels: Pixels) -> dict[str, Any]:
        """Every tensor of the float network."""
        values: dict[str, Any] = {self.exact.graph.input: self.exact.real_input(pixels)}
        for op in self.exact.graph.ops:
            values[op.output] = _run(op, values)
        return values

    def _alone(self, pixels: Pixels, real: dict[str, Floats], base: dict[str, Any] | None) -> None:
        """Walks the quantized network with exact values at every point.

        Between points there are two of each value, with and without rounding: the latter shows by
        which factor the file keeps a channel.
        """
        network = self.quantized.graph
        source = self.quantized.real_input(pixels)
        smooth: dict[str, Any] = {network.input: source}
        rough: dict[str, Any] = {network.input: source}
        for at, op in enumerate(network.ops):
            made, rounded = self._both(op, smooth, rough)
            self._note_factors(op)
            point = self._by_stored.get(op.output)
            if point is not None:
                r = real[point.name]
                found = self.found[point.stored]
                made = rounded = self._at_point(point, found, r, made=made, rounded=rounded, base=base)
                made = rounded = made.reshape(len(r), *network.shapes[op.output][1:])
            smooth[op.output], rough[op.output] = made, rounded
            for name in op.inputs:
                if self._last_use[name] == at:
                    smooth.pop(name, None)
                    rough.pop(name, None)

    def _both(self, op: FileOp, smooth: dict[str, Any], rough: dict[str, Any]) -> tuple[Any, Any]:
        if op.run is None or any(smooth[name] is None for name in op.inputs):
            return None, None
        made = op.run([smooth[name] for name in op.inputs])
        same = all(smooth[name] is rough[name] for name in op.inputs)
        rounded = made if same else op.run([rough[name] for name in op.inputs])
        params = self.quantized.graph.params.get(op.output)
        if params is None or self._kept(op, params):
            return made, rounded
        if op.output in self._by_stored:  # saturation is no part of the factor: see `_at_point`
            return made, params.round(rounded)
        return params.saturate(made), params.round(rounded)

    def _note_factors(self, op: FileOp) -> None:
        """Of what only stores a value anew, and what the weights of a layer show."""
        inputs = self._factors.get(op.inputs[0])
        if inputs is not None and (op.kind in STORAGE or op.moves_only) and op.output not in self._by_stored:
            self._factors[op.output] = inputs
        shifts = [shift for name in op.inputs if (shift := self._shifts.get(name)) is not None]
        if op.kernel is None and shifts:  # a sum, or what hands its values on: see `movable`
            self._shifts[op.output] = np.sum(shifts, axis=0)
        reference = self._layers.get(op.layer)
        if op.kernel is not None and reference is not None:
            factors = self._by_weights[op.output] = weight_factors(op, reference, inputs)
            if factors is not None:
                self._by_bias[op.output] = bias_shift(op, reference, factors, self._shifts.get(op.inputs[0]))

    def _at_point(
        self, point: MatchedTensor, found: _Found, r: Floats, *, made: Any, rounded: Any, base: dict[str, Any] | None
    ) -> Floats:
        """Sums up the point; returns the exact values in the quantized file's scale."""
        params = self.quantized.graph.params.get(point.stored)
        known = [f for op in point.segment if (f := self._by_weights.get(op.output)) is not None]
        found.known = made is not None
        # Without the result of exact inputs, what the interpreter made has to show the factors.
        shown = self._integers[point.stored] if made is None else np.asarray(made)
        by_weights, by_input = known[-1] if known else None, self._read_factors(point, r.shape[-1])
        below = self._below(point, r, made, by_weights, by_input)
        centred = r if below is None else (r - below).astype(np.float32)
        factors = found.factors.update(
            _floored(centred, point), _floored(shown.reshape(r.shape), point), params,
            by_weights=by_weights, by_input=by_input,
        )  # fmt: skip
        self._factors[point.stored] = factors
        self._shifts[point.stored] = None if below is None else factors * below
        exact = (centred * factors).astype(np.float32)
        if params is not None:
            low, high = params.range
            kept = _floored(exact, point)
            found.low += int((kept < low - params.scale / 2).sum())
            found.high += int((kept > high + params.scale / 2).sum())
        if made is not None:
            alone = self._raised(np.asarray(rounded).reshape(r.shape), point)
            found.alone.add(_floored(r, point), _floored(alone, point))
            if base is not None:
                found.effect += self._effect(point, (alone / factors).astype(np.float32), base)
        return exact

    def _below(
        self, point: MatchedTensor, r: Floats, made: Any, by_weights: Doubles | None, by_input: Doubles | None
    ) -> Doubles | None:
        """How much lower than the float file the quantized one keeps each channel, in units of the former."""
        by_bias = self._by_bias.get(point.writer) if point.stored in self._movable else None
        if by_weights is None or by_bias is None:
            return in_reference(self._shifts.get(point.stored), by_input)
        if point.stored not in self._lowered and made is not None:
            shown = shown_shift(r, made.reshape(r.shape), by_weights, by_bias)
            self._lowered[point.stored] = in_reference(shown, by_weights)
        return self._lowered.get(point.stored)

    def _raised(self, values: Floats, point: MatchedTensor) -> Floats:
        """Values of the quantized file around the centre that the float one has."""
        shift = self._shifts.get(point.stored)
        return values if shift is None else (values + shift).astype(np.float32)

    def _read_factors(self, point: MatchedTensor, channels: int) -> Doubles | None:
        """Of the first tensor with as many channels that operations without weights read."""
        if any(op.kernel is not None for op in point.segment):
            return None
        known = (self._factors.get(name) for op in point.segment for name in op.inputs)
        return next((factors for factors in known if factors is not None and factors.size == channels), None)

    def _effect(self, point: MatchedTensor, values: Floats, base: dict[str, Any]) -> float:
        """Sum over images of the output's divergence with `values` in place of the point's."""
        network = self.exact.graph
        changed: dict[str, Any] = {point.name: values.reshape(base[point.name].shape)}
        for op in network.ops:
            if op.output not in changed and any(name in changed for name in op.inputs):
                changed[op.output] = _run(op, {name: changed.get(name, base[name]) for name in op.inputs})
        if network.output not in changed:
            return 0.0
        return float(self._divergence(base[network.output], changed[network.output]).sum())

    def result(self, images: int) -> Diagnosis:
        """The rows, what hurts most first."""
        rows = [self._row(point, self.found[point.stored], images) for point in self.points]
        compared = {point.name for point in self.points}
        return Diagnosis(
            file=self.quantized.where,
            reference=self.exact.where,
            images=images,
            divergence=float(np.mean(self._divergences)),
            agreement=float(np.mean(self._agreements)),
            layers=tuple(sorted(rows, key=badness)),
            not_compared=tuple(
                op.output
                for op in self.exact.graph.ops
                if op.output not in compared and not op.moves_only and not is_part(op.output, self.exact.graph)
            ),
            unknown=tuple(
                sorted({op.kind for n in (self.quantized, self.exact) for op in n.graph.ops if op.run is None})
            ),
        )

    def _row(self, point: MatchedTensor, found: _Found, images: int) -> LayerError:
        params = self.quantized.graph.params.get(point.stored)
        step = None if params is None else params.scale
        count = found.accumulated.count
        columns = [c for op in point.segment if (c := op.columns()) is not None]
        spreads = [s for c in columns if (s := spread(np.abs(c).max(0))) is not None]
        factors = found.factors.value
        return LayerError(
            layer=point.layer,
            tensor=point.label,
            operations=point.operations,
            dtype="float32" if params is None else params.dtype,
            scale=step,
            zero_point=None if params is None else params.zero_point,
            effect=found.effect / images if found.known and self._whole else None,
            sqnr_alone=found.alone.sqnr(factors) if found.known else None,
            error_alone=found.alone.error(factors) / step if found.known and step is not None else None,
            sqnr=found.accumulated.sqnr(factors),
            error=None if step is None else found.accumulated.error(factors) / step,
            saturated_low=None if params is None else found.low / count,
            saturated_high=None if params is None else found.high / count,
            weight_spread=max(spreads, default=None),
            channel_spread=spread(found.accumulated.largest),
            factors=(float(factors.min()), float(factors.max())),
        )


def _run(op: FileOp, values: dict[str, Any]) -> Any:
    if op.run is None:
        raise ValueError(f"operation {op.kind} cannot be run")
    return np.asarray(op.run([values[name] for name in op.inputs]))


def _floored(values: Floats, point: MatchedTensor) -> Floats:
    return values if point.floor is None else np.maximum(values, np.float32(point.floor))


def _input_factors(quantized: DiagnosedModel, exact: DiagnosedModel) -> Doubles:
    """How much the quantized file's input grows where the float one's grows by one, a channel."""
    ends = np.zeros((2, *exact.size, exact.channels), np.uint8)
    ends[1] = 255
    mine, theirs = (opened.real_input(ends)[:, 0, 0].astype(np.float64) for opened in (quantized, exact))
    return np.asarray((mine[1] - mine[0]) / (theirs[1] - theirs[0]))
