"""`mbn-deploy inspect FILE`: the contents of a model file; with a float file, which layers lose accuracy in int8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mbn_deploy.cli.diagnosis import print_diagnosis
from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import Json, PreprocessText, Resize, path_argument, path_option
from mbn_deploy.cli.output import human_bytes, millions, plain, print_json, stdout, table
from mbn_deploy.cli.progress_bar import load_frameworks, progress_bar
from mbn_deploy.errors import UsageError
from mbn_deploy.manifest import Description
from mbn_deploy.text import shorten

if TYPE_CHECKING:
    from mbn_deploy.export.file_report import DelegateReport, FileReport, OpReport, Share, TensorReport

COMPARISON = "Comparison of layers with a float file"  # a heading of `--help`


@guarded
def inspect(
    file: Annotated[Path, path_argument("FILE", "A .tflite or .onnx file, from any converter.")],
    *,
    ops: Annotated[bool, typer.Option("--ops", help="List every operation with its output's type and range.")] = False,
    delegate: Annotated[
        bool, typer.Option("--delegate", help="Open a .tflite file to see which operations XNNPACK does not take.")
    ] = False,
    reference: Annotated[
        Path | None,
        path_option(
            help="Float .tflite or .onnx file of the same bundle, with which every layer is compared on --data.",
            panel=COMPARISON,
        ),
    ] = None,
    data: Annotated[
        Path | None, path_option(help="Folder of images to compare the layers on, without labels.", panel=COMPARISON)
    ] = None,
    count: Annotated[int, typer.Option(help="Number of images from --data.", rich_help_panel=COMPARISON)] = 16,
    seed: Annotated[int, typer.Option(help="Seed that picks the images from --data.", rich_help_panel=COMPARISON)] = 0,
    layers: Annotated[
        int,
        typer.Option(min=0, help="Number of layers shown, the worst first; 0 shows all.", rich_help_panel=COMPARISON),
    ] = 20,
    resize: Resize = None,
    preprocess: PreprocessText = None,
    as_json: Json = False,
) -> None:
    """Show the operations, types and scales of a file, its real precision, and whether its ranges are clean.

    With --reference and --data, show signal-to-noise ratio, error, saturation and effect on the output of every layer.
    """
    from mbn_deploy.export.inspect import inspect_file

    if reference is not None and data is not None:
        from mbn_deploy.diagnose.diagnose import diagnose

        load_frameworks()
        with progress_bar() as progress:
            diagnosis = diagnose(
                file,
                reference,
                data,
                count=count,
                seed=seed,
                resize=resize,
                preprocess=preprocess,
                progress=progress,
            )
        if as_json:
            print_json(diagnosis.to_dict())
        else:
            print_diagnosis(stdout(), diagnosis, layers)
        return
    if reference is not None or data is not None:
        raise UsageError("--reference and --data are given together: layers are compared with a float file on images")
    report = inspect_file(file, delegate=delegate)
    if as_json:
        print_json(report.to_dict())
        return
    console = stdout()
    _summary(console, report)
    _tensors(console, report)
    _counts(console, report)
    _notes(console, report)
    if ops:
        _operations(console, report.ops)


def _summary(console: Console, report: FileReport) -> None:
    integer = "every operation is integer" if report.all_integer else "not every operation is integer"
    console.print(
        f"{plain(report.path)}: {report.format} {report.precision}, {human_bytes(report.size)}, "
        f"{millions(report.parameters)} parameters, {integer}",
        soft_wrap=True,
    )
    if report.producer:
        console.print(f"producer: {plain(report.producer)}", soft_wrap=True)
    console.print()


def _tensors(console: Console, report: FileReport) -> None:
    shown = table("", "tensor", "shape", "type", "scale", "zero point", left=2)
    rows = [("input", t) for t in report.inputs] + [("output", t) for t in report.outputs]
    for end, tensor in rows:
        scale = "" if tensor.scale is None else f"{tensor.scale:.6g}"
        zero = "" if tensor.zero_point is None else str(tensor.zero_point)
        shown.add_row(end, plain(tensor.name), _shape(tensor), tensor.dtype, scale, zero)
    console.print(shown)
    console.print()


def _counts(console: Console, report: FileReport) -> None:
    console.print(f"{sum(report.counts.values())} operations: {_counted(report.counts)}")


def _counted(counts: Mapping[str, int]) -> str:
    """List the kinds of operations with their numbers, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {plain(kind)}" for kind, count in ordered) or "none"


def _notes(console: Console, report: FileReport) -> None:
    """Print what may cause trouble on a device, the file's own description, and how XNNPACK divides it."""
    if report.purpose is not None:
        console.print(f"This is {plain(report.purpose)}.", soft_wrap=True)
    for warning in report.warnings:
        console.print(f"warning: {plain(warning)}", soft_wrap=True)
    notes = {
        "needs TensorFlow's own kernels": report.select_tf_ops,
        "custom operations": report.custom_ops,
        "left over from a dynamic batch": report.dynamic_leftovers,
        "signatures": report.signatures,
        "metadata": report.metadata,
    }
    for what, names in notes.items():
        if names:
            console.print(f"{what}: {plain(', '.join(names))}")
    if report.relu6:
        clean = sum(r.clean for r in report.relu6)
        console.print(f"ReLU6 outputs: {clean} of {len(report.relu6)} have the clean range [0, 6] (scale 6/255)")
    if report.description is not None:
        console.print(_described(report.description, report.outputs))
    if report.float_islands is not None:
        console.print(f"float islands: {_share(report.float_islands)}")
    if report.delegate is not None:
        _delegate(console, report.delegate, report.outside_delegate)


def _described(said: Description, outputs: Sequence[TensorReport]) -> str:
    """Return what the file says about itself, in a line."""
    p, count = said.preprocess, outputs[0].shape[-1] if outputs and outputs[0].shape else 0
    return (
        f"its description: {plain(said.model)} {plain(said.precision)}, {said.answers(count).described(count)}, "
        f"(pixel - {_vector(p.mean)}) / {_vector(p.std)}, {p.channels}, {p.resize}, "
        f"{0 if said.labels is None else len(said.labels)} labels"
    )


def _delegate(console: Console, delegate: DelegateReport, outside: Share | None) -> None:
    if delegate.error is not None:
        console.print(f"the interpreter with XNNPACK does not open it: {plain(delegate.error)}")
        return
    kinds = _counted(Counter(delegate.outside))
    console.print(f"XNNPACK takes it in {delegate.partitions} partition(s); operations outside: {kinds}")
    if outside is not None and outside.ops:
        console.print(f"outside XNNPACK: {_share(outside)}")


def _share(share: Share) -> str:
    return (
        f"{len(share.ops)} operations, {100 * share.macs:.1f} % of the multiply-adds, "
        f"{100 * share.values:.1f} % of the values written: "
        f"{shorten(plain(name.split(';', 1)[0]) for name in share.ops)}"
    )


def _operations(console: Console, ops: tuple[OpReport, ...]) -> None:
    shown = table("operation", "kind", "output", "type", "range", left=2)
    for op in ops:
        for tensor in op.outputs:
            limits = "" if tensor.range is None else f"{tensor.range[0]:.4g} … {tensor.range[1]:.4g}"
            fused = "" if op.activation == "none" else f"+{op.activation}"
            shown.add_row(plain(op.name or tensor.name), plain(op.kind + fused), _shape(tensor), tensor.dtype, limits)
    console.print()
    console.print(shown)


def _shape(tensor: TensorReport) -> str:
    return "×".join("?" if n < 0 else str(n) for n in tensor.shape)


def _vector(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "[" + ", ".join(f"{v:g}" for v in values) + "]"
