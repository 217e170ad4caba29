"""`mbn-deploy bundle c-array BUNDLE -o DIR`: the int8 model for TensorFlow Lite Micro."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mbn_deploy.cli.bundle_pi import Output, Overwrite, Source
from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import Json
from mbn_deploy.cli.output import human_bytes, plain, print_json, stdout
from mbn_deploy.cli.progress_bar import hide_startup_messages


@guarded
def c_array(
    path: Source,
    *,
    output: Output,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The C name for files, array and macros; by default the model's name."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Package the int8 model for microcontrollers: a C array, its operators and the memory it needs (x86-64 Linux)."""
    from mbn_deploy.packages.micro.package import write_c_array_package

    with hide_startup_messages():
        package = write_c_array_package(path, output, name=name, overwrite=overwrite)
    if as_json:
        facts = asdict(package) | {
            "folder": str(package.folder),
            "archive": str(package.archive),
            "source": package.source.path,
        }
        print_json(facts)
        return
    console = stdout()
    console.print(plain(f"{package.folder} and {package.archive}, from {package.source.path}"), soft_wrap=True)
    console.print(f"model {human_bytes(package.model_bytes)} in flash, arena {human_bytes(package.arena)} in RAM")
    console.print(f"operators: {', '.join(package.operators)}", soft_wrap=True)
    console.print(
        f"TensorFlow Lite Micro ran it on {package.images} pictures: outputs differ by at most {package.differs} "
        f"levels from this machine's interpreter, the top-1 class is the same on {package.same_top1:.0%}.",
        soft_wrap=True,
    )
