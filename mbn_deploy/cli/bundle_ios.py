"""`mbn-deploy bundle ios BUNDLE -o DIR`: the model as resources, with a class in Swift."""

from __future__ import annotations

from typing import Annotated

import typer

from mbn_deploy.cli.bundle_pi import Output, Overwrite, Source
from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import Json
from mbn_deploy.cli.output import human_bytes, plain, print_json, stdout


@guarded
def ios(
    path: Source,
    *,
    output: Output,
    precision: Annotated[str | None, typer.Option(help="Which .tflite file; by default the best for a phone.")] = None,
    class_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the Swift class; by default the model's name.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """For iOS apps: model, labels and golden vectors as a folder of resources, and a Swift class (not compiled)."""
    from mbn_deploy.packages.ios.package import package_ios

    made = package_ios(path, output, name=class_name, precision=precision, overwrite=overwrite)
    if as_json:
        facts = {"folder": str(made.folder), "archive": str(made.archive), "name": made.name}
        print_json(facts | {"source": made.source.path, "files": list(made.files), "compiled": False})
        return
    console = stdout()
    console.print(plain(f"{made.folder} and {made.archive}"), soft_wrap=True)
    console.print(
        plain(f"Swift class {made.name}, with {made.source.path} ({human_bytes(made.source.size)})"), soft_wrap=True
    )
    console.print("The Swift code was not compiled. README.md says how it goes into a project.")
