"""`mbn-deploy list`: the networks that `describe` and `export` take by name."""

from __future__ import annotations

from typing import Any

from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import Json
from mbn_deploy.cli.output import millions, print_json, stdout, table
from mbn_deploy.models.analysis import totals
from mbn_deploy.models.imagenet import published_variants
from mbn_deploy.models.layers import Spec
from mbn_deploy.models.tables import NETWORKS, Network

HINT = (
    "Parameters and multiply-adds (MACs) are those at α = 1, 224 × 224 pixels and 1000 classes. ImageNet weights "
    "(--weights imagenet) exist for the α and sizes above; other weights can have any α > 0 and any size from 32."
)


@guarded
def list_models(*, as_json: Json = False) -> None:
    """List the networks, with parameters and multiply-adds at α = 1 and 224 × 224."""
    rows = [_row(network) for network in NETWORKS.values()]
    if as_json:
        print_json(rows)
        return
    shown = table("model", "paper", "parameters", "MACs", left=2)
    for row in rows:
        shown.add_row(row["model"], row["paper"], millions(row["parameters"]), millions(row["macs"]))
    console = stdout()
    console.print(shown)
    console.print()
    shown = table("ImageNet weights of", "α", "sizes", left=3)
    for row in rows:
        shown.add_row(row["model"], _joined(row["imagenet_alphas"]), _joined(row["imagenet_sizes"]))
    console.print(shown)
    console.print()
    console.print(HINT)
    console.print("Next: mbn-deploy describe mobilenet_v2, or mbn-deploy export mobilenet_v2 --help")


def _joined(values: list[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _row(network: Network) -> dict[str, Any]:
    parameters, macs = totals(Spec(network))
    alphas, sizes = published_variants(network.name)
    return {
        "model": network.name,
        "paper": network.paper,
        "parameters": parameters,
        "macs": macs,
        "imagenet_alphas": list(alphas),
        "imagenet_sizes": list(sizes),
    }
