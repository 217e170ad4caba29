"""Print the table of `inspect INT8 --reference FLOAT --data DIR`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from mbn_deploy.cli.output import plain, table

if TYPE_CHECKING:
    from mbn_deploy.diagnose.layer_errors import Diagnosis, LayerError

_SHOWN = 4  # names in a line


def print_diagnosis(console: Console, diagnosis: Diagnosis, rows: int) -> None:
    """Print the worst `rows` layers (0: all) and explain the figures."""
    console.print(
        f"{plain(diagnosis.file)} compared with {plain(diagnosis.reference)} on {diagnosis.images} images: "
        + ("" if diagnosis.agreement is None else f"same answer on {100 * diagnosis.agreement:.1f} %, ")
        + f"outputs differ by {diagnosis.divergence:.4g} ({diagnosis.unit})",
        soft_wrap=True,
    )
    console.print()
    shown = diagnosis.layers[:rows] if rows else diagnosis.layers
    columns = table("layer", "effect", "alone", "run", "error", "sat %", "w", "ch", left=1)
    for row in shown:
        columns.add_row(plain(_short(row.layer)), *_figures(row))
    console.print(columns)
    console.print()
    if len(shown) < len(diagnosis.layers):
        console.print(
            f"{len(shown)} of {len(diagnosis.layers)} layers; --layers 0 shows all of them, --json more figures."
        )
    console.print(
        f"effect: change of the float output if only this layer is quantized ({diagnosis.unit})\n"
        "alone, run: signal to noise (dB) on exact inputs, and as the network runs\n"
        "error: root mean square error in steps as it runs (rounding alone is 0.29)\n"
        "sat %: values beyond the range; w, ch: the widest channel over the median\n"
        "channel, of weights and of values"
    )
    if diagnosis.not_compared:
        console.print(
            f"not compared (the file lacks them, or has them in another form): {_shortened(diagnosis.not_compared)}"
        )
    if diagnosis.unknown:
        console.print(f"operations that could not be run alone: {_shortened(diagnosis.unknown)}")


def _short(name: str) -> str:
    """Return the first part of a name: TensorFlow's converter joins the names of all layers that it merged."""
    return name.split(";", 1)[0]


def _figures(row: LayerError) -> list[str]:
    saturated = None if row.saturated_low is None else 100 * (row.saturated_low + (row.saturated_high or 0.0))
    return [
        _number(row.effect, ".2e" if row.effect is not None and 0 < row.effect < 1e-4 else ".4f"),
        _number(row.sqnr_alone, ".1f"),
        _number(row.sqnr, ".1f"),
        _number(row.error, ".2f"),
        _number(saturated, ".2f"),
        _number(row.weight_spread, ".1f"),
        _number(row.channel_spread, ".1f"),
    ]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _shortened(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return plain(", ".join(names[:_SHOWN])) + more
