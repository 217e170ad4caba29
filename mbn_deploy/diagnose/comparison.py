"""Compare the tensors of a quantized file with those of the float file on images, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mbn_deploy.arrays import Floats, Pixels
from mbn_deploy.diagnose.file_graph import FileGraph, FileOp
from mbn_deploy.diagnose.layer_errors import ChannelSums, Diagnosis, LayerError, badness, spread
from mbn_deploy.diagnose.matching import PADDING, STORAGE, MatchedTensor, is_part
from mbn_deploy.diagnose.model_file import DiagnosedModel
from mbn_deploy.diagnose.output_change import UNITS, OutputChange
from mbn_deploy.graph.quantized import QuantParams
from mbn_deploy.graph.rescaling import IDENTITY, Rescaling

_CHUNK_BYTES = 128 * 2**20  # of the float graph's tensors at once
_MAX_CHUNK = 16


def chunks(images: Pixels, graph: FileGraph) -> Iterator[Pixels]:
    """Split images into chunks for which all tensors of `graph` fit into memory."""
    bytes_each = 4 * sum(int(np.prod(graph.shapes.get(op.output, (0,))[1:])) for op in graph.ops)
    size = int(np.clip(_CHUNK_BYTES // max(bytes_each, 1), 1, _MAX_CHUNK))
    for start in range(0, len(images), size):
        yield images[start : start + size]


@dataclass(eq=False)
class _TensorSums:
    """Sums over images for one matched tensor; `computable` is whether its segment could be run op by op."""

    accumulated: ChannelSums
    isolated: ChannelSums
    too_low: int = 0
    too_high: int = 0
    effect: float = 0.0
    computable: bool = True


@dataclass(eq=False)
class _OutputSums:
    """Per image: how much the outputs differ, and whether they say the same, if that can be told."""

    changes: list[float] = field(default_factory=list)
    agreements: list[bool] = field(default_factory=list)


class ModelComparison:
    """Two open files, their matched tensors, and sums over the images so far.

    `rescalings` says which matched tensors the quantized file holds at another scale or centre.
    """

    def __init__(
        self,
        quantized: DiagnosedModel,
        exact: DiagnosedModel,
        tensors: Sequence[MatchedTensor],
        rescalings: Mapping[str, Rescaling],
    ) -> None:
        self.quantized, self.exact, self.tensors = quantized, exact, list(tensors)
        self._run_quantized = quantized.runner([*(t.stored for t in self.tensors), quantized.graph.output])
        self._run_exact = exact.runner([*(t.name for t in self.tensors), exact.graph.output])
        channels = {t.stored: exact.graph.shapes[t.name][-1] for t in self.tensors}
        self._sums = {stored: _TensorSums(ChannelSums(n), ChannelSums(n)) for stored, n in channels.items()}
        self._rescalings = {
            t.stored: _for_channels(_rescaling_of(t, rescalings, exact.graph), channels[t.stored]) for t in self.tensors
        }
        self._change = OutputChange(exact.answers)
        self._output_sums = _OutputSums()
        self._by_stored = {t.stored: t for t in self.tensors}
        # Operations that only move values or store them in another type, by output, with what they read.
        self._copies = {
            op.output: op.inputs[0]
            for op in quantized.graph.ops
            if (op.moves_only or op.kind in PADDING | STORAGE) and op.output not in self._by_stored
        }
        self._last_use = {name: at for at, op in enumerate(quantized.graph.ops) for name in op.inputs}
        self._exact_is_computable = all(op.run is not None for op in exact.graph.ops)

    def add(self, pixels: Pixels) -> None:
        """Compare the two files on a chunk of images, uint8 (N, H, W, C)."""
        real, integer = self._run_exact(pixels), self._run_quantized(pixels)
        self._add_outputs(real[self.exact.graph.output], integer[self.quantized.graph.output])
        base = self._every_exact_tensor(pixels) if self._exact_is_computable else None
        self._add_isolated(pixels, real, base)
        for tensor in self.tensors:
            r = real[tensor.name]
            q = self._without_shift(integer[tensor.stored].reshape(r.shape), tensor)
            self._sums[tensor.stored].accumulated.add(_floored(r, tensor), _floored(q, tensor))

    def _add_outputs(self, expected: Floats, given: Floats) -> None:
        expected, given = expected.reshape(len(expected), -1), given.reshape(len(given), -1)
        self._output_sums.changes += list(self._change.sizes(expected, given))
        same = self._change.same(expected, given)
        self._output_sums.agreements += [] if same is None else list(same)

    def _every_exact_tensor(self, pixels: Pixels) -> dict[str, Any]:
        values: dict[str, Any] = {self.exact.graph.input: self.exact.real_input(pixels)}
        for op in self.exact.graph.ops:
            values[op.output] = _run(op, values)
        return values

    def _add_isolated(self, pixels: Pixels, real: dict[str, Floats], base: dict[str, Any] | None) -> None:
        """Run the quantized graph op by op, and replace every matched tensor by its exact values once compared."""
        graph = self.quantized.graph
        values: dict[str, Any] = {graph.input: self.quantized.real_input(pixels)}
        for at, op in enumerate(graph.ops):
            result = self._rounded_result(op, values)
            tensor = self._by_stored.get(op.output)
            if tensor is not None:
                exact = self._add_tensor(tensor, real[tensor.name], result, base)
                result = exact.reshape(len(exact), *graph.shapes[op.output][1:])
            values[op.output] = result
            for name in op.inputs:
                if self._last_use[name] == at:
                    values.pop(name, None)

    def _rounded_result(self, op: FileOp, values: dict[str, Any]) -> Any:
        """Return the result of `op` as the file stores it; None if the op, or one before it, cannot be run."""
        if op.run is None or any(values[name] is None for name in op.inputs):
            return None
        result = op.run([values[name] for name in op.inputs])
        params = self.quantized.graph.params.get(op.output)
        return result if params is None or self._is_rounded_already(op, params) else params.round(result)

    def _is_rounded_already(self, op: FileOp, params: QuantParams) -> bool:
        """Return whether `op` copies integers that have these parameters already."""
        source = op.inputs[0]
        while source in self._copies:
            source = self._copies[source]
        return op.output in self._copies and self.quantized.graph.params.get(source) == params

    def _add_tensor(self, tensor: MatchedTensor, r: Floats, result: Any, base: dict[str, Any] | None) -> Floats:
        """Compare the `result` of exact inputs with the exact values `r`; return `r` in the quantized file's scale."""
        params = self.quantized.graph.params.get(tensor.stored)
        sums, rescaling = self._sums[tensor.stored], self._rescalings[tensor.stored]
        exact = np.asarray(rescaling.to_quantized(r))
        if params is not None:
            low, high = params.range
            relevant = _floored(exact, tensor)
            sums.too_low += int((relevant < low - params.scale / 2).sum())
            sums.too_high += int((relevant > high + params.scale / 2).sum())
        sums.computable = result is not None
        if result is not None:
            isolated = self._without_shift(np.asarray(result).reshape(r.shape), tensor)
            sums.isolated.add(_floored(r, tensor), _floored(isolated, tensor))
            if base is not None:
                sums.effect += self._effect(tensor, (isolated / rescaling.factor).astype(np.float32), base)
        return exact

    def _without_shift(self, values: Floats, tensor: MatchedTensor) -> Floats:
        """Return values of the quantized file multiplied by their factors only."""
        rescaling = self._rescalings[tensor.stored]
        if not rescaling.shift.any():
            return values
        return np.asarray(values + rescaling.factor * rescaling.shift, np.float32)

    def _effect(self, tensor: MatchedTensor, values: Floats, base: dict[str, Any]) -> float:
        """Return the sum over images of the output's change if the float graph gets `values` for this tensor."""
        graph = self.exact.graph
        changed: dict[str, Any] = {tensor.name: values.reshape(base[tensor.name].shape)}
        for op in graph.ops:
            if op.output not in changed and any(name in changed for name in op.inputs):
                changed[op.output] = _run(op, {name: changed.get(name, base[name]) for name in op.inputs})
        if graph.output not in changed:
            return 0.0
        rows = (np.reshape(values[graph.output], (len(base[graph.output]), -1)) for values in (base, changed))
        return float(self._change.sizes(*rows).sum())

    def result(self) -> Diagnosis:
        """Return the diagnosis, with the layers that hurt most first."""
        rows = [self._row(tensor, self._sums[tensor.stored]) for tensor in self.tensors]
        compared = {tensor.name for tensor in self.tensors}
        return Diagnosis(
            file=self.quantized.where,
            reference=self.exact.where,
            images=len(self._output_sums.changes),
            divergence=float(np.mean(self._output_sums.changes)),
            agreement=float(np.mean(self._output_sums.agreements)) if self._output_sums.agreements else None,
            unit=UNITS[self.exact.answers.meaning],
            layers=tuple(sorted(rows, key=badness)),
            not_compared=tuple(
                op.output
                for op in self.exact.graph.ops
                if op.output not in compared and not op.moves_only and not is_part(op.output, self.exact.graph)
            ),
            unknown=tuple(
                sorted({op.kind for m in (self.quantized, self.exact) for op in m.graph.ops if op.run is None})
            ),
        )

    def _row(self, tensor: MatchedTensor, sums: _TensorSums) -> LayerError:
        params = self.quantized.graph.params.get(tensor.stored)
        step = None if params is None else params.scale
        count = sums.accumulated.count
        columns = [c for op in tensor.segment if (c := op.columns()) is not None]
        spreads = [s for c in columns if (s := spread(np.abs(c).max(0))) is not None]
        factor = self._rescalings[tensor.stored].factor
        images = len(self._output_sums.changes)
        return LayerError(
            layer=tensor.layer,
            tensor=tensor.label,
            operations=tensor.operations,
            dtype="float32" if params is None else params.dtype,
            scale=step,
            zero_point=None if params is None else params.zero_point,
            effect=sums.effect / images if sums.computable and self._exact_is_computable else None,
            sqnr_alone=sums.isolated.sqnr(factor) if sums.computable else None,
            error_alone=sums.isolated.error(factor) / step if sums.computable and step is not None else None,
            sqnr=sums.accumulated.sqnr(factor),
            error=None if step is None else sums.accumulated.error(factor) / step,
            saturated_low=None if params is None else sums.too_low / count,
            saturated_high=None if params is None else sums.too_high / count,
            weight_spread=max(spreads, default=None),
            channel_spread=spread(sums.accumulated.largest),
            factors=(float(factor.min()), float(factor.max())),
        )


def _rescaling_of(tensor: MatchedTensor, rescalings: Mapping[str, Rescaling], graph: FileGraph) -> Rescaling:
    """Return the rescaling of the tensor, or of the layer's tensor if this is a step inside a layer (`conv/linear`)."""
    name = tensor.name
    if name not in rescalings and is_part(name, graph):
        name = name.rpartition("/")[0]
    return rescalings.get(name, IDENTITY)


def _for_channels(rescaling: Rescaling, channels: int) -> Rescaling:
    return Rescaling(*(np.broadcast_to(part, (channels,)) for part in (rescaling.factor, rescaling.shift)))


def _run(op: FileOp, values: dict[str, Any]) -> Any:
    if op.run is None:
        raise ValueError(f"operation {op.kind} cannot be run")
    return np.asarray(op.run([values[name] for name in op.inputs]))


def _floored(values: Floats, tensor: MatchedTensor) -> Floats:
    return values if tensor.floor is None else np.maximum(values, np.float32(tensor.floor))
