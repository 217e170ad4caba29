"""`mbn-deploy verify BUNDLE`: replay the golden vectors on this device."""

from __future__ import annotations

from collections.abc import Sequence
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
from mbn_deploy.text import plural
from mbn_deploy.verify.bundle_check import BundleCheck, verify_bundle
from mbn_deploy.verify.operation_check import OperationCheck, OperationDifference
from mbn_deploy.verify.replay import GoldenResult


@guarded
def verify(
    bundle: Annotated[Path, path_argument("BUNDLE", "A bundle (the folder that `export` wrote).")],
    *,
    backend: Backend = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Check that this machine computes what the export computed. Exit code 5 if not.

    Every file that an interpreter here can run gets the inputs of golden.npz. Its outputs are compared with those of
    the export, and so is the result of every operation, what goes into the last softmax or sigmoid among them. The
    first operation that differs is named. What the manifest says of a file is compared with what the file says itself.
    """
    with hide_startup_messages():
        found = verify_bundle(bundle, backend=backend, threads=threads)
    if as_json:
        print_json(_to_json(found))
    else:
        console = stdout()
        _print_results(console, found.files)
        for result in found.files:
            _print_explanation(console, result)
        _print_other_failures(console, found)
    if found.not_replayed:
        reason = "" if backend else " (no interpreter for it is installed)"
        print_note(f"not replayed: {', '.join(map(plain, found.not_replayed))}{reason}")
    if not found.passed:
        raise typer.Exit(VerificationError.exit_code)


def _to_json(found: BundleCheck) -> dict[str, Any]:
    files = [
        asdict(result) | {"passed": result.passed, "other_kernels": result.other_kernels} for result in found.files
    ]
    return asdict(found) | {"passed": found.passed, "files": files}


def _print_other_failures(console: Console, found: BundleCheck) -> None:
    """Print what the manifest states otherwise than the files, and which files have no golden vectors."""
    if not found.passed:
        console.print()
    for one in found.disagreements:
        console.print(
            f"FAILED: {plain(one.file)}: {plain(one.what)}: the manifest says {plain(one.manifest)}, the file says "
            f"{plain(one.own)}."
        )
    for name in found.without_vectors:
        console.print(f"FAILED: {plain(name)}: golden.npz has no outputs of it, so nothing says what it must answer.")


def _print_results(console: Console, results: Sequence[GoldenResult]) -> None:
    if not results:
        return
    ranked = any(result.same_top1 is not None for result in results)
    rows = table("file", "interpreter, kernels", "off by", "allowed", "top-1" if ranked else "inputs", "", left=2)
    for result in results:
        largest, allowed = _difference_and_tolerance(result)
        same = None if result.same_top1 is None else round(result.same_top1 * result.images)
        rows.add_row(
            plain(result.file),
            f"{result.backend} {plain(result.version)}, {result.kernels}",
            largest,
            allowed,
            str(result.images) if same is None else f"{same}/{result.images}",
            "passed" if result.passed else "FAILED",
        )
    console.print(rows)
    console.print()
    console.print(
        "off by: largest difference from the outputs at export, for int8 files in quantization levels."
        + (
            " top-1: images with the same top-1 class as at export; one of them is random noise, whose class means "
            "little."
            if ranked
            else ""
        )
        + _beyond_outputs(results)
    )


def _beyond_outputs(results: Sequence[GoldenResult]) -> str:
    """Say what was compared beside the outputs, and of which files it was not."""
    compared = [r for r in results if r.operations is not None and r.operations.before_answers is not None]
    missing = [plain(r.file) for r in results if r not in compared]
    sentences = []
    if compared:
        sentences.append("Operations were compared too, what goes into the last softmax or sigmoid among them.")
    if missing:
        sentences.append(
            f"Not compared: what goes into the last operation of {', '.join(missing)}, of which the bundle has no "
            "samples; a probability near 0 or 1 hides it."
        )
    return "".join(f" {sentence}" for sentence in sentences)


def _difference_and_tolerance(result: GoldenResult) -> tuple[str, str]:
    """Format the largest difference and the tolerance, in quantization levels for quantized outputs."""
    if result.level is None:
        return f"{result.largest:.1e}", f"{result.tolerance:.1e}"
    return plural(round(result.largest / result.level), "level"), f"{result.tolerance / result.level:.0f}"


def _print_explanation(console: Console, result: GoldenResult) -> None:
    """Print what is known about a file whose outputs, or an operation of which, differ too much."""
    if result.passed and result.outputs_passed:
        return
    console.print()
    console.print(f"{plain(result.file)}: " + " ".join(_sentences(result)))


def _sentences(result: GoldenResult) -> list[str]:
    check = result.operations
    sentences = []
    if result.other_kernels:
        sentences.append(f"The export used {plain(result.made_with)}, this machine uses {result.kernels}.")
    if check is None:
        return [
            *sentences,
            "The bundle has no samples of single operations; export again to see which operation differs.",
        ]
    if check.left_out:
        sentences.append(
            f"The bundle has no samples of the last {plural(check.left_out, 'operation')}: kernels could not run them "
            "alone at the export."
        )
    if check.first is not None:
        return [*sentences, _first_difference(check, check.first)]
    if "reference" not in check.against:
        return [
            *sentences,
            f"None of the {check.compared} operations alone exceeds its tolerance: small differences add up.",
        ]
    differing = f"{check.moved} of them do" if check.moved else "none does"
    sentences.append(
        f"On this machine, reference kernels give the same outputs as at export in all {check.compared} operations. "
        "Given the same inputs, the kernels in use differ from them by at most one quantization level "
        f"({differing})."
    )
    if result.by_operations:
        return [*sentences, "So both are correct and differ only in rounding."]
    return [*sentences, "Yet the outputs differ by more than the same kernels may."]


def _first_difference(check: OperationCheck, first: OperationDifference) -> str:
    amount = plural(round(first.largest), "level") if first.levels else f"{first.largest:.2g}"
    if first.largest <= first.tolerance:
        amount += f" in {first.moved} of {first.values} values"
    allowed = "" if first.levels else f" ({first.tolerance:.2g} allowed)"
    operation = f"operation {first.number} of {check.compared}, {first.kind} {plain(first.name)}"
    if first.against == "export":
        return (
            f"The first that differs is {operation}: from correct inputs, its output is off by {amount}{allowed} from "
            "that at export. Either this file was changed, or this processor computes wrongly."
        )
    return (
        "The file is correct: reference kernels give the same outputs here as at export. But from the same inputs, the "
        f"kernels in use differ from them by {amount}{allowed} in {operation}."
    )
