"""`mbn-deploy benchmark BUNDLE|FILE...`: what a picture costs on this machine, and the best number of threads."""

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
from mbn_deploy.runtime.benchmark.comparison import compare as compared
from mbn_deploy.runtime.benchmark.comparison import read_benchmark
from mbn_deploy.runtime.benchmark.targets import Choice, picture_of
from mbn_deploy.runtime.benchmark.timing import Amount
from mbn_deploy.runtime.system.temporary import replace_file
from mbn_deploy.runtime.threads import cache_path, write_cache, write_to_bundle

# Headings of `--help`.
AMOUNT = "How much is measured"
THREADS = "Number of threads"


@guarded
def benchmark(
    paths: Annotated[list[Path], path_argument("BUNDLE|FILE", "What to measure; all files of a bundle, in turns.")],
    *,
    precision: OnlyPrecision = None,
    backend: Backend = None,
    threads: Annotated[
        str | None,
        typer.Option(
            metavar="N,N...", help="Numbers of threads; by default what `run` would take.", rich_help_panel=THREADS
        ),
    ] = None,
    runs: Annotated[
        int | None, typer.Option(help="Pictures for each file and number of threads.", rich_help_panel=AMOUNT)
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Or so long for each. [default: 10]", rich_help_panel=AMOUNT)
    ] = None,
    warmup: Annotated[int, typer.Option(help="Pictures before anything counts.", rich_help_panel=AMOUNT)] = 10,
    openings: Annotated[
        int,
        typer.Option(
            help="Fresh processes that open each file, for the time and memory of that; 0 is none.",
            rich_help_panel=AMOUNT,
        ),
    ] = OPENINGS,
    image: Annotated[Path | None, path_option(help="The picture; by default a JPEG of 640 x 480 is made up.")] = None,
    resize: Resize = None,
    preprocess: PreprocessText = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Find the best number of threads and keep it: `run` and Classifier use it.",
            rich_help_panel=THREADS,
        ),
    ] = False,
    tune_bundle: Annotated[
        bool,
        typer.Option(
            "--tune-bundle",
            help="The same, kept in the bundle's manifest for machines of this kind.",
            rich_help_panel=THREADS,
        ),
    ] = False,
    compare: Annotated[
        Path | None,
        path_option("--compare", help="Say what is faster or slower than in an older JSON of this command."),
    ] = None,
    output: Annotated[Path | None, path_option("-o", "--output", help="Write the JSON to this file, too.")] = None,
    as_json: Json = False,
) -> None:
    """Time from an image file to the answer, by phase, in p50, p90 and p99; time and memory of opening."""
    if tune_bundle and not all(path.is_dir() for path in paths):
        raise UsageError("--tune-bundle writes to a bundle's manifest; a lone file has none: use --tune")
    if (tune or tune_bundle) and threads is not None:
        raise UsageError("--tune measures all numbers of threads; leave out --threads")
    # All that can be wrong is looked at before minutes are spent.
    old = None if compare is None else read_benchmark(compare)
    if output is not None:
        check_output(output)
    picture = None if image is None else picture_of(image)
    with progress_bar(still=True) as progress:
        found = measure(
            paths,
            choice=Choice(precision, backend, resize, preprocess),
            threads=(None,) if threads is None else thread_counts(threads),
            amount=Amount(Amount.seconds if runs is None and seconds is None else seconds, runs, warmup),
            picture=picture,
            tune=tune or tune_bundle,
            openings=openings,
            progress=progress,
        )
    data = found.to_dict()
    comparison = None if old is None else compared(old, data, str(compare))
    data["comparison"] = None if comparison is None else asdict(comparison)
    data["kept"] = kept(found, paths, cache=tune, bundle=tune_bundle)
    if output is not None:
        write_output(output, data)
    if as_json:
        print_json(data)
    else:
        console = stdout()
        print_benchmark(console, found)
        print_tuning(console, found, data["kept"])
        if comparison is not None:
            print_comparison(console, comparison)
        if output is not None:
            console.print(plain(f"Written to {output}."), soft_wrap=True)
    for name, why in found.failed.items():
        print_error(f"error: {name} was left out: {why}")
    if found.failed:
        raise typer.Exit(INPUT)


def thread_counts(text: str) -> tuple[int, ...]:
    """`1,2,4` as numbers; raises `UsageError`."""
    parts = comma_list(text, "--threads")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(f"--threads {text!r}: whole numbers separated by commas are expected, as in 1,2,4")
    return tuple(map(int, parts))


def check_output(path: Path) -> None:
    """Whether `-o` may be written: a new file, or an older measurement in its place."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: -o takes a file's name in a folder that is there")
    if path.exists():
        try:
            read_benchmark(path)
        except InputError:
            raise UsageError(f"{path} is no JSON of this command and is not replaced; choose another name") from None


def write_output(path: Path, data: dict[str, Any]) -> None:
    """`data` as the whole of `path`, or what was there before."""
    replace_file(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def kept(found: Benchmark, paths: list[Path], *, cache: bool, bundle: bool) -> list[str]:
    """Keep thread counts where they were asked for; the files that have them now."""
    places = []
    if bundle:
        for folder in paths:
            own = [record for record in found.tuned if record.sha256 in found.files_in(folder)]
            write_to_bundle(folder, own)
            places.append(str(folder / MANIFEST_NAME))
    if cache:
        problem = write_cache(found.tuned)
        if problem is None:
            places.append(str(cache_path()))
        else:
            print_error(f"thread counts are not kept: {problem}")
    return places
