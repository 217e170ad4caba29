"""`mbn-deploy verify BUNDLE`: the golden vectors replayed on this very device."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import Backend, Json, Threads, path_argument
from mbn_deploy.cli.output import plain, print_json, print_note, stdout, table
from mbn_deploy.cli.progress_bar import hide_startup_messages
from mbn_deploy.errors import VerificationError
from mbn_deploy.verify.golden import GoldenResult, skipped, verify_golden
from mbn_deploy.verify.operation_check import OperationCheck, OperationDifference


@guarded
def verify(
    bundle: Annotated[Path, path_argument("BUNDLE", "A folder that `export` made.")],
    *,
    backend: Backend = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Does this machine compute what the export computed? Exit code 5 if not.

    Every file that an interpreter here can run gets the inputs of golden.npz; where its answers are off,
    the first operation that differs is named.
    """
    with hide_startup_messages():
        results = verify_golden(bundle, backend=backend, threads=threads)
    left = skipped(bundle, results)
    passed = all(result.passed for result in results)
    if as_json:
        print_json({"passed": passed, "files": [_facts(result) for result in results], "not_replayed": left})
    else:
        console = stdout()
        _results(console, results)
        for result in results:
            _explanation(console, result)
    if left:
        print_note(f"not replayed: {', '.join(left)}" + ("" if backend else " (no interpreter for it is installed)"))
    if not passed:
        raise typer.Exit(VerificationError.exit_code)


def _facts(result: GoldenResult) -> dict[str, Any]:
    return asdict(result) | {"passed": result.passed, "other_kernels": result.other_kernels}


def _results(console: Console, results: list[GoldenResult]) -> None:
    shown = table("file", "interpreter, kernels", "off by", "allowed", "top-1", "", left=2)
    for result in results:
        largest, allowed = _figures(result)
        same = round(result.same_top1 * result.images)
        shown.add_row(
            plain(result.file),
            f"{result.backend} {plain(result.version)}, {result.kernels}",
            largest,
            allowed,
            f"{same}/{result.images}",
            "passed" if result.passed else "FAILED",
        )
    console.print(shown)
    console.print()
    console.print(
        "off by: largest difference to the outputs at the export, of int8 files in levels. top-1: images with the same "
        "best class; one of them is noise, whose best class means little."
    )


def _figures(result: GoldenResult) -> tuple[str, str]:
    """Largest difference and tolerance, in levels where there are any."""
    if result.level is None:
        return f"{result.largest:.1e}", f"{result.tolerance:.1e}"
    levels = result.largest / result.level
    return f"{levels:.0f} levels" if round(levels) != 1 else "1 level", f"{result.tolerance / result.level:.0f}"


def _explanation(console: Console, result: GoldenResult) -> None:
    """What is known of a file whose outputs are off."""
    if result.largest <= result.tolerance:
        return
    console.print()
    console.print(f"{plain(result.file)}: " + " ".join(_sentences(result)))


def _sentences(result: GoldenResult) -> list[str]:
    found = result.operations
    said = []
    if result.other_kernels:
        said.append(f"At the export {plain(result.made_with)} computed, here {result.kernels}.")
    if found is None:
        return [*said, "The bundle holds no samples of operations; export again to see which one differs."]
    if found.first is not None:
        return [*said, _named(found, found.first)]
    if "reference" not in found.against:
        return [*said, f"None of {found.compared} operations alone is off by more than it may: differences add up."]
    moved = f"{found.moved} of them are" if found.moved else "none is"
    said.append(
        f"Reference kernels give here what they gave at the export in all {found.compared} operations, and the kernels "
        f"in use are at most one level off from them when given the same inputs ({moved})."
    )
    if result.by_operations:
        return [*said, "So both are right, and round differently."]
    return [*said, "Yet the outputs are further off than the same kernels may be."]


def _named(found: OperationCheck, first: OperationDifference) -> str:
    amount = f"{first.largest:.0f} levels" if first.levels else f"{first.largest:.2g} ({first.tolerance:.2g} allowed)"
    which = f"operation {first.number} of {found.compared}, {first.kind} {plain(first.name)}"
    if first.against == "export":
        return (
            f"The first that differs is {which}: off by {amount} from what it gave at the export, from inputs that "
            "were right. Either this file was changed, or this processor computes wrongly."
        )
    return (
        f"The file is right: reference kernels give here what they gave at the export. But from the same inputs the "
        f"kernels in use differ from them in {which}, by {amount}."
    )
