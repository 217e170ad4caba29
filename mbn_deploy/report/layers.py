"""The section on layers: error, and ranges before and after conditioning, as plots and tables."""

from __future__ import annotations

from mbn_deploy.diagnose.layer_errors import MAX_DB
from mbn_deploy.diagnose.layer_summary import LayerFigures, ValueRange
from mbn_deploy.report.data import Layers, Report
from mbn_deploy.report.html import Html, joined, tag
from mbn_deploy.report.parts import code, number, section, significant, table
from mbn_deploy.report.plots import MOST_DB, noise_plot, spread_plot

WORST = 8
_COLUMNS = (
    "layer",
    "alone, dB",
    "as it runs, dB",
    "weights, before and after",
    "spread",
    "values, before and after",
    "spread",
    "integers cover",
)


def layers(report: Report) -> Html | None:
    """By layer: error, and ranges before and after conditioning."""
    if not report.layers:
        return None
    return section("layers", "Layer by layer", *(_layers(found) for found in report.layers))


def _layers(found: Layers) -> Html:
    """One recipe's layers."""
    worst = sorted(found.rows, key=lambda row: row.alone)[:WORST]
    return joined(
        [
            tag("h3", f"{found.precision}, recipe {found.recipe}"),
            None if found.written else tag("p", "This was the last recipe tried; its files were not written."),
            tag("p", _explained(found.images)),
            _noise(found),
            _spreading(found),
            table(f"worst-{found.precision}", "Layers with most noise of their own", _COLUMNS, map(_row, worst)),
            tag(
                "details",
                tag("summary", f"All {len(found.rows)} layers"),
                table(f"layers-{found.precision}", "All layers, in their order", _COLUMNS, map(_row, found.rows)),
            ),
        ]
    )


def _noise(found: Layers) -> Html:
    alone, run = [row.alone for row in found.rows], [row.run for row in found.rows]
    caption = tag(
        "figcaption",
        _key("alone", "alone"),
        " what a layer adds by itself; ",
        _key("run", "as the network runs"),
        " what has gathered up to it. More is better, 6 dB are one bit; "
        f"what has more than {MOST_DB:g} dB is drawn at the edge.",
    )
    return tag("figure", noise_plot(alone, run, found.precision, _noise_text(found)), caption)


def _spreading(found: Layers) -> Html:
    pairs = [(_spread(row.values[0]), _spread(row.values[1])) for row in found.rows]
    caption = tag(
        "figcaption",
        _key("before", "before"),
        " and ",
        _key("after", "after conditioning"),
        ": how much wider the widest channel of a layer's values is than the median one. All share one scale, so 1 is "
        "best.",
    )
    return tag("figure", spread_plot(pairs, found.precision, _spread_text(found)), caption)


def _explained(images: int) -> str:
    return (
        f"Signal to noise of the quantized network against the float one, on {images} calibration pictures; ranges "
        "over the whole calibration set, before conditioning (small, where it differs) and after it. Spread is the "
        "widest channel over the median one. To look into the files themselves: "
        "mbn-deploy inspect INT8 --reference FLOAT32 --data PICTURES"
    )


def _key(kind: str, name: str) -> Html:
    return joined([tag("span", "", class_=f"key {kind}"), tag("strong", name)])


def _noise_text(found: Layers) -> str:
    worst = min(found.rows, key=lambda row: row.alone)
    last = found.rows[-1]
    return (
        f"{len(found.rows)} layers. Alone, {worst.layer} is the noisiest with {number(worst.alone, 1)} dB; "
        f"as the network runs, the last layer has {number(last.run, 1)} dB."
    )


def _spread_text(found: Layers) -> str:
    before, after = ([s for row in found.rows if (s := _spread(row.values[at])) is not None] for at in (0, 1))
    return f"The widest is {significant(max(before, default=1))} before and {significant(max(after, default=1))} after."


def _spread(extent: ValueRange | None) -> float | None:
    return None if extent is None else extent.spread


def _row(row: LayerFigures) -> list[object]:
    covered = row.dtype if row.covered is None else _pair(row.dtype, _range(*row.covered))
    return [
        code(row.layer), _decibel(row.alone), _decibel(row.run),
        _ranges(row.weights), _spreads(row.weights), _ranges(row.values), _spreads(row.values), covered,
    ]  # fmt: skip


def _decibel(value: float) -> str:
    return "exact" if value >= MAX_DB else number(value, 1)


def _ranges(pair: tuple[ValueRange | None, ValueRange]) -> Html:
    return _change(*("–" if extent is None else _range(extent.low, extent.high) for extent in pair))


def _change(before: str, after: str) -> Html:
    """What conditioning left alone stands there once."""
    return tag("span", after, class_="line") if before == after else _pair(before, after)


def _pair(before: str, after: str) -> Html:
    return joined([tag("span", before, class_="bounds"), tag("span", after, class_="line")])


def _range(low: float, high: float) -> str:
    return f"{significant(low)} to {significant(high)}"


def _spreads(pair: tuple[ValueRange | None, ValueRange]) -> Html:
    return _change(*("–" if (s := _spread(extent)) is None else significant(s, 2) for extent in pair))
