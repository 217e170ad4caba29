"""`mbn-deploy benchmark BUNDLE|FILE...`: latency and memory on this machine, and the best number of threads."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from mbn_deploy.cli.benchmark_report import print_benchmark, print_comparison, print_tuning
from mbn_deploy.cli.exit_codes import INPUT, guarded
from mbn_deploy.cli.options import (
    Backend,
    Isolate,
    Json,
    OnlyPrecision,
    PreprocessText,
    Resize,
    comma_list,
    path_argument,
    path_option,
)
from mbn_deploy.cli.output import plain, print_error, print_json, stdout
from mbn_deploy.cli.progress_bar import progress_bar
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import MANIFEST_NAME
from mbn_deploy.runtime.benchmark.benchmark import OPENINGS, Benchmark
from mbn_deploy.runtime.benchmark.benchmark import benchmark as measure
from mbn_deploy.runtime.benchmark.comparison import compare_benchmarks, read_benchmark
from mbn_deploy.runtime.benchmark.targets import TargetOptions, read_benchmark_image
from mbn_deploy.runtime.benchmark.timing import Amount
from mbn_deploy.runtime.system.temporary import replace_file
from mbn_deploy.runtime.threads import cache_path, write_cache, write_to_bundle

# Headings of `--help`.
AMOUNT = "How much is measured"
THREADS = "Number of threads"


@guarded
def benchmark(
    paths: Annotated[list[Path], path_argument("BUNDLE|FILE", "Bundles and model files to measure, in turns.")],
    *,
    precision: OnlyPrecision = None,
    backend: Backend = None,
    threads: Annotated[
        str | None,
        typer.Option(
            metavar="N,N...", help="Numbers of threads to measure. [default: as for `run`]", rich_help_panel=THREADS
        ),
    ] = None,
    runs: Annotated[
        int | None, typer.Option(help="Images for each file and number of threads.", rich_help_panel=AMOUNT)
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Or seconds for each file and number of threads. [default: 10]", rich_help_panel=AMOUNT),
    ] = None,
    warmup: Annotated[
        int, typer.Option(help="Images that are classified before the measurement.", rich_help_panel=AMOUNT)
    ] = 10,
    openings: Annotated[
        int,
        typer.Option(
            help="Fresh processes that open each file, to measure opening time and memory; 0 leaves that out.",
            rich_help_panel=AMOUNT,
        ),
    ] = OPENINGS,
    image: Annotated[
        Path | None, path_option(help="Image to classify. [default: a synthetic JPEG of 640 x 480]")
    ] = None,
    resize: Resize = None,
    preprocess: PreprocessText = None,
    isolate: Isolate = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Find the best number of threads and remember it for `run`, `serve` and Classifier on this machine.",
            rich_help_panel=THREADS,
        ),
    ] = False,
    tune_bundle: Annotated[
        bool,
        typer.Option(
            "--tune-bundle",
            help="Find the best number of threads and write it to the bundle's manifest, for machines of this kind.",
            rich_help_panel=THREADS,
        ),
    ] = False,
    compare: Annotated[
        Path | None,
        path_option("--compare", help="Compare with an older JSON file of this command."),
    ] = None,
    output: Annotated[Path | None, path_option("-o", "--output", help="Also write the JSON to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Measure latency (p50, p90, p99) from an image file to predictions, by phase, and the cost of opening a file."""
    if tune_bundle and not all(path.is_dir() for path in paths):
        raise UsageError("--tune-bundle writes to a bundle's manifest, which a single file does not have; use --tune")
    if (tune or tune_bundle) and threads is not None:
        raise UsageError("--tune measures all numbers of threads; leave out --threads")
    # Everything that can be wrong is checked before minutes are spent.
    old = None if compare is None else read_benchmark(compare)
    if output is not None:
        check_output(output)
    shown = None if image is None else read_benchmark_image(image)
    with progress_bar(still=True) as progress:
        result = measure(
            paths,
            options=TargetOptions(
                precision=precision, backend=backend, resize=resize, preprocess=preprocess, isolate=isolate
            ),
            threads=(None,) if threads is None else thread_counts(threads),
            amount=Amount(Amount.seconds if runs is None and seconds is None else seconds, runs, warmup),
            image=shown,
            tune=tune or tune_bundle,
            openings=openings,
            progress=progress,
        )
    data = result.to_dict()
    comparison = None if old is None else compare_benchmarks(old, data, str(compare))
    data["comparison"] = None if comparison is None else asdict(comparison)
    data["kept"] = keep_thread_counts(result, paths, in_cache=tune, in_bundle=tune_bundle)
    if output is not None:
        write_output(output, data)
    if as_json:
        print_json(data)
    else:
        console = stdout()
        print_benchmark(console, result)
        print_tuning(console, result, data["kept"])
        if comparison is not None:
            print_comparison(console, comparison)
        if output is not None:
            console.print(plain(f"Written to {output}."), soft_wrap=True)
    for name, why in result.failed.items():
        print_error(f"error: {name} was left out: {why}")
    if result.failed:
        raise typer.Exit(INPUT)


def thread_counts(text: str) -> tuple[int, ...]:
    """Parse `1,2,4`; raises `UsageError`."""
    parts = comma_list(text, "--threads")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(f"--threads {text!r}: whole numbers separated by commas are expected, as in 1,2,4")
    return tuple(map(int, parts))


def check_output(path: Path) -> None:
    """Raise `UsageError` unless `-o` is a new file or an older measurement, which is replaced."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: -o takes the name of a file in an existing folder")
    if path.exists():
        try:
            read_benchmark(path)
        except InputError:
            raise UsageError(
                f"{path} is not a JSON file of this command and is not replaced; choose another name"
            ) from None


def write_output(path: Path, data: dict[str, Any]) -> None:
    """Write `data` to `path` atomically."""
    replace_file(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def keep_thread_counts(result: Benchmark, paths: list[Path], *, in_cache: bool, in_bundle: bool) -> list[str]:
    """Keep the tuned numbers of threads in the cache or in the bundles; return the files that have them now."""
    written = []
    if in_bundle:
        for folder in paths:
            hashes = result.hashes_in(folder)
            write_to_bundle(folder, [record for record in result.tuned if record.sha256 in hashes])
            written.append(str(folder / MANIFEST_NAME))
    if in_cache:
        problem = write_cache(result.tuned)
        if problem is None:
            written.append(str(cache_path()))
        else:
            print_error(f"the numbers of threads could not be saved: {problem}")
    return written
