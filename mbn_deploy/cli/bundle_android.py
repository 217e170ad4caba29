"""`mbn-deploy bundle android BUNDLE -o DIR`: a library module, an .aar or a pack for Android apps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbn_deploy.cli.bundle_pi import Output, Overwrite, Source
from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import Json, comma_list
from mbn_deploy.cli.output import human_bytes, plain, print_json, print_note, stdout, table

if TYPE_CHECKING:
    from mbn_deploy.packages.android.package import AndroidPackage


@guarded
def android(
    path: Source,
    *,
    output: Output,
    kind: Annotated[
        str,
        typer.Option(
            metavar="module|aar|asset-pack|ai-pack",
            help="A Gradle library module, a finished library, or a pack for Google Play's delivery.",
        ),
    ] = "module",
    runtime: Annotated[
        str, typer.Option(metavar="litert|mediapipe|onnx", help="What runs the models in the app.")
    ] = "litert",
    precision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="int8,float32",
            help="Which files go in, separated by commas; may be repeated. By default one: int8 if there is one.",
        ),
    ] = None,
    package: Annotated[
        str | None, typer.Option(metavar="com.example.flowers", help="Package of the class; by default com.example.…")
    ] = None,
    class_name: Annotated[
        str | None, typer.Option(metavar="FlowerClassifier", help="By default made from the model's name.")
    ] = None,
    min_sdk: Annotated[
        int | None, typer.Option(help="Least API level; by default the runtime's (litert 21, mediapipe and onnx 24).")
    ] = None,
    pack_name: Annotated[
        str | None, typer.Option(help="Of packs; by default the class's name in small letters.")
    ] = None,
    delivery: Annotated[
        str | None,
        typer.Option(metavar="install-time|fast-follow|on-demand", help="Of packs; install-time if nothing is said."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """For Android apps: models as assets, one class for Kotlin and Java that runs them, and a test for the phone."""
    from mbn_deploy.packages.android.package import AndroidOptions, package_android

    names = tuple(name for text in precision or () for name in comma_list(text, "--precision"))
    options = AndroidOptions(kind, runtime, names, package, class_name, min_sdk, pack_name, delivery)
    made = package_android(path, output, options, overwrite=overwrite)
    for warning in made.warnings:
        print_note(f"warning: {warning}")
    if not made.golden:
        print_note("warning: the bundle has no golden vectors: there is no test for the phone")
    if as_json:
        print_json(_facts(made))
    else:
        _print(made)


def _print(made: AndroidPackage) -> None:
    console = stdout()
    console.print(plain(f"{made.folder} and {made.archive}"), soft_wrap=True)
    least = "" if made.min_sdk is None else f", from API level {made.min_sdk}"
    delivered = "" if made.pack is None else f", pack {made.pack} ({made.delivery})"
    console.print(
        f"{made.kind}{delivered}: {made.package}.{made.class_name}, with {made.runtime.name}{least}", soft_wrap=True
    )
    console.print()
    shown = table("model", "size")
    for entry in made.files:
        shown.add_row(plain(entry.path), human_bytes(entry.size))
    console.print(shown)
    console.print()
    console.print(f"The app's download grows by {human_bytes(made.asset_bytes)} and {made.runtime.name}.")
    console.print("README.md says how it goes into a project.")


def _facts(made: AndroidPackage) -> dict[str, Any]:
    return {
        "folder": str(made.folder),
        "archive": str(made.archive),
        "kind": made.kind,
        "runtime": made.runtime.name,
        "dependencies": list(made.runtime.dependencies),
        "package": made.package,
        "class": made.class_name,
        "min_sdk": made.min_sdk,
        "pack": made.pack,
        "delivery": made.delivery,
        "models": {entry.path: entry.size for entry in made.files},
        "asset_bytes": made.asset_bytes,
        "golden": made.golden,
        "warnings": list(made.warnings),
        "files": list(made.written),
    }
