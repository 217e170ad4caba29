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
        str | None, typer.Option(metavar="NAME", help="Of files, array and macros; by default the model's name.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """For microcontrollers: the int8 model as a C array, its operators, and the memory it needs (x86-64 Linux)."""
    from mbn_deploy.packages.micro.package import package_c_array

    with hide_startup_messages():
        made = package_c_array(path, output, name=name, overwrite=overwrite)
    if as_json:
        facts = asdict(made) | {"folder": str(made.folder), "archive": str(made.archive), "source": made.source.path}
        print_json(facts)
        return
    console = stdout()
    console.print(plain(f"{made.folder} and {made.archive}, from {made.source.path}"), soft_wrap=True)
    console.print(f"model {human_bytes(made.model_bytes)} in flash, arena {human_bytes(made.arena)} in RAM")
    console.print(f"operators: {', '.join(made.operators)}", soft_wrap=True)
    console.print(
        f"TensorFlow Lite Micro ran it: on {made.images} pictures it is off by at most {made.differs} levels from this "
        f"machine's interpreter, top-1 is equal on {made.same_top1:.0%}.",
        soft_wrap=True,
    )
