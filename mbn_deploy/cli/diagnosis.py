"""The table of `inspect INT8 --reference FLOAT --data DIR`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from mbn_deploy.cli.output import plain, table

if TYPE_CHECKING:
    from mbn_deploy.diagnose.layer_errors import Diagnosis, LayerError

_SHOWN = 4  # names in a line


def print_diagnosis(console: Console, found: Diagnosis, rows: int) -> None:
    """The worst `rows` layers (0: all), and what the figures mean."""
    console.print(
        f"{plain(found.file)} beside {plain(found.reference)}, {found.images} images: same first answer on "
        f"{100 * found.agreement:.1f} %, outputs diverge by {found.divergence:.4g} nats",
        soft_wrap=True,
    )
    console.print()
    shown = found.layers[:rows] if rows else found.layers
    columns = table("layer", "effect", "alone", "run", "error", "sat %", "w", "ch", left=1)
    for row in shown:
        columns.add_row(plain(_short(row.layer)), *_figures(row))
    console.print(columns)
    console.print()
    if len(shown) < len(found.layers):
        console.print(f"{len(shown)} of {len(found.layers)} layers; --layers 0 shows all, --json more of each.")
    console.print(
        "effect: divergence (nats) of the float output if only this layer is quantized\n"
        "alone, run: signal to noise (dB) on exact inputs, and as the network runs\n"
        "error: as it runs, root mean square in steps (0.29 is pure rounding)\n"
        "sat %: values beyond the range; w, ch: widest over median channel of\n"
        "weights and values"
    )
    if found.not_compared:
        console.print(f"not compared (absent, or in another form): {_some(found.not_compared)}")
    if found.unknown:
        console.print(f"operations that only the interpreter knows: {_some(found.unknown)}")


def _short(name: str) -> str:
    """TensorFlow's converter joins the names of all that it merged."""
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


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return plain(", ".join(names[:_SHOWN])) + more
