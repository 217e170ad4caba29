"""`mbn-deploy describe MODEL`: a network's layers, and how much separable convolutions, width and resolution save."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import Json
from mbn_deploy.cli.output import millions, print_json, stdout, table
from mbn_deploy.models.analysis import (
    REFERENCE_SIZE,
    LayerCost,
    ScalingCost,
    SeparableCost,
    layer_costs,
    scaling_costs,
    separable_costs,
    totals,
)
from mbn_deploy.models.layers import Spec
from mbn_deploy.models.tables import network

CONVENTION = (
    "1 MAC = one multiplication with one addition, in convolutions and dense layers; parameters include BatchNorm's."
)
WHY_NOT_SQUARES = (
    "ρ = size / 224. The counts differ from α² · ρ² where α changes only one side of a layer: depthwise layers and the "
    "classifier cost α, not α²; channels are rounded; V2 and V3 keep the width of some layers."
)
ALPHAS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.4)
SIZES = (224, 160, 128)


@guarded
def describe(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name from `mbn-deploy list`.")],
    *,
    alpha: Annotated[float, typer.Option(help="Width multiplier α.")] = 1.0,
    size: Annotated[int, typer.Option(help="Input height and width in pixels.")] = 224,
    classes: Annotated[int, typer.Option(help="Number of classes.")] = 1000,
    all_layers: Annotated[
        bool, typer.Option("--all-layers", help="Include layers without multiply-adds: BatchNorm, activations, ...")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show layers with parameters and multiply-adds, their cost beside standard convolutions, the effect of α and ρ."""
    spec = Spec(network(model), alpha, size, classes)
    scaling = scaling_costs(spec, sorted({*ALPHAS, alpha}), sorted({*SIZES, size}, reverse=True))
    if as_json:
        print_json(_json(spec, scaling))
        return
    console = stdout()
    _summary(console, spec)
    _layers(console, [c for c in layer_costs(spec) if all_layers or c.macs])
    _separable(console, separable_costs(spec))
    _scaling(console, scaling)


def _json(spec: Spec, scaling: list[ScalingCost]) -> dict[str, Any]:
    parameters, macs = totals(spec)
    return {
        "model": spec.network.name,
        "paper": spec.network.paper,
        "alpha": spec.alpha,
        "size": spec.size,
        "classes": spec.classes,
        "parameters": parameters,
        "macs": macs,
        "convention": CONVENTION,
        "layers": [asdict(cost) for cost in layer_costs(spec)],
        "separable": [
            asdict(pair) | {"measured": pair.measured, "formula": pair.formula} for pair in separable_costs(spec)
        ],
        "scaling": [asdict(cost) | {"rho": cost.rho, "squares": cost.squares} for cost in scaling],
    }


def _summary(console: Console, spec: Spec) -> None:
    parameters, macs = totals(spec)
    console.print(f"{spec.network.name} ({spec.network.paper}), α = {spec.alpha:g}, {spec.size} × {spec.size} pixels")
    console.print(f"{spec.classes:,} classes, {parameters:,} parameters, {macs:,} multiply-adds (MACs)")
    console.print(CONVENTION)
    console.print()


def _layers(console: Console, costs: list[LayerCost]) -> None:
    shown = table("layer", "kind", "output", "parameters", "MACs", left=2)
    for cost in costs:
        shape = "×".join(str(n) for n in cost.shape)
        shown.add_row(cost.name, cost.kind, shape, f"{cost.parameters:,}", f"{cost.macs:,}")
    _titled(console, "Layers (output: height × width × channels)", shown)


def _separable(console: Console, pairs: list[SeparableCost]) -> None:
    shown = table("depthwise layer", "D_K", "N", "MACs", "standard", "counted", "1/N+1/D_K²")
    for p in pairs:
        macs = (millions(p.separable_macs), millions(p.standard_macs))
        shown.add_row(p.depthwise, str(p.kernel), str(p.filters), *macs, f"{p.measured:.4f}", f"{p.formula:.4f}")
    _titled(console, "Depthwise separable compared with a standard D_K × D_K convolution with N outputs", shown)


def _titled(console: Console, title: str, shown: Table) -> None:
    """Print a title above a table; the table's own title would be wrapped to its width."""
    console.print(title, style="bold")
    console.print(shown)
    console.print()


def _scaling(console: Console, costs: list[ScalingCost]) -> None:
    sizes = list(dict.fromkeys(cost.size for cost in costs))
    headings = [f"{size} (ρ {size / REFERENCE_SIZE:.2f})" for size in sizes]
    shown = table("α", *headings)
    for alpha in dict.fromkeys(cost.alpha for cost in costs):
        cells = [f"{c.measured:.3f} | {c.squares:.3f}" for c in costs if c.alpha == alpha]
        shown.add_row(f"{alpha:g}", *cells)
    _titled(console, f"MACs relative to α = 1 at {REFERENCE_SIZE} pixels: counted | α² · ρ²", shown)
    console.print(WHY_NOT_SQUARES)
