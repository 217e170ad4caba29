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
    precision: Annotated[
        str | None, typer.Option(help="The precision of the .tflite file; by default the best for a phone.")
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The name of the Swift class; by default made from the model's name."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Package a bundle for iOS apps: model, labels, golden vectors, and a Swift class (not compiled)."""
    from mbn_deploy.packages.ios.package import write_ios_package

    package = write_ios_package(path, output, name=class_name, precision=precision, overwrite=overwrite)
    if as_json:
        facts = {"folder": str(package.folder), "archive": str(package.archive), "name": package.name}
        print_json(facts | {"source": package.source.path, "files": list(package.files), "compiled": False})
        return
    console = stdout()
    console.print(plain(f"{package.folder} and {package.archive}"), soft_wrap=True)
    console.print(
        plain(f"Swift class {package.name}, with {package.source.path} ({human_bytes(package.source.size)})"),
        soft_wrap=True,
    )
    console.print("The Swift code was not compiled. README.md says how to add it to a project.")
