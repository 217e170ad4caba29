"""The section on layers: quantization error, and ranges before and after conditioning, as plots and tables."""

from __future__ import annotations

from dataclasses import dataclass

from mbn_deploy.diagnose.layer_errors import MAX_DB
from mbn_deploy.diagnose.layer_summary import LayerFigures, ValueRange
from mbn_deploy.report.data import Layers
from mbn_deploy.report.figures import number, significant
from mbn_deploy.report.plots import noise_plot, spread_plot
from mbn_deploy.report.svg import Svg

WORST = 8
Change = tuple[str, str]  # before and after conditioning, as text


@dataclass(frozen=True)
class LayerRow:
    """A layer in the table, as text."""

    layer: str
    sqnr_isolated: str
    sqnr_accumulated: str
    weights: Change
    weight_spread: Change
    values: Change
    value_spread: Change
    dtype: str
    covered: str | None


@dataclass(frozen=True)
class LayerSection:
    """The layers of one recipe: two plots, the noisiest layers, and all of them in order."""

    layers: Layers
    noise: Svg
    spread: Svg
    worst: list[LayerRow]
    rows: list[LayerRow]


def layer_section(layers: Layers) -> LayerSection:
    """Return plots and tables of the layers of one recipe."""
    figures, identity = layers.rows, layers.precision
    spreads = [(_spread(row.values[0]), _spread(row.values[1])) for row in figures]
    return LayerSection(
        layers=layers,
        noise=noise_plot(
            [r.sqnr_isolated for r in figures],
            [r.sqnr_accumulated for r in figures],
            identity,
            _describe_noise(figures),
        ),
        spread=spread_plot(spreads, identity, _describe_spread(figures)),
        worst=[_row(row) for row in sorted(figures, key=lambda row: row.sqnr_isolated)[:WORST]],
        rows=[_row(row) for row in figures],
    )


def _describe_noise(figures: tuple[LayerFigures, ...]) -> str:
    worst = min(figures, key=lambda row: row.sqnr_isolated)
    return (
        f"{len(figures)} layers. Alone, {worst.layer} is the noisiest with {number(worst.sqnr_isolated, 1)} dB; "
        f"as the network runs, the last layer has {number(figures[-1].sqnr_accumulated, 1)} dB."
    )


def _describe_spread(figures: tuple[LayerFigures, ...]) -> str:
    before, after = ([s for row in figures if (s := _spread(row.values[at])) is not None] for at in (0, 1))
    return f"The widest is {significant(max(before, default=1))} before and {significant(max(after, default=1))} after."


def _spread(extent: ValueRange | None) -> float | None:
    return None if extent is None else extent.spread


def _row(row: LayerFigures) -> LayerRow:
    return LayerRow(
        layer=row.layer,
        sqnr_isolated=_decibel(row.sqnr_isolated),
        sqnr_accumulated=_decibel(row.sqnr_accumulated),
        weights=_ranges(row.weights),
        weight_spread=_spreads(row.weights),
        values=_ranges(row.values),
        value_spread=_spreads(row.values),
        dtype=row.dtype,
        covered=None if row.covered is None else _range(*row.covered),
    )


def _decibel(value: float) -> str:
    return "exact" if value >= MAX_DB else number(value, 1)


def _ranges(pair: tuple[ValueRange | None, ValueRange]) -> Change:
    before, after = pair
    return "–" if before is None else _range(before.low, before.high), _range(after.low, after.high)


def _range(low: float, high: float) -> str:
    return f"{significant(low)} to {significant(high)}"


def _spreads(pair: tuple[ValueRange | None, ValueRange]) -> Change:
    before, after = ("–" if (s := _spread(extent)) is None else significant(s, 2) for extent in pair)
    return before, after
