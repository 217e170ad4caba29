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
            help="Write a Gradle library module, a finished library, or a pack for Google Play's delivery.",
        ),
    ] = "module",
    runtime: Annotated[
        str, typer.Option(metavar="litert|mediapipe|onnx", help="The interpreter in the app.")
    ] = "litert",
    precision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="int8,float32",
            help="The precisions to pack, separated by commas; may be repeated. By default one: int8 if there is one.",
        ),
    ] = None,
    package: Annotated[
        str | None,
        typer.Option(metavar="com.example.flowers", help="The package of the class; by default com.example.…"),
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option(metavar="FlowerClassifier", help="The name of the class; by default made from the model's name."),
    ] = None,
    min_sdk: Annotated[
        int | None,
        typer.Option(help="The least API level; by default the runtime's (litert 21, mediapipe and onnx 24)."),
    ] = None,
    pack_name: Annotated[
        str | None, typer.Option(help="The name of a pack; by default the class's name in small letters.")
    ] = None,
    delivery: Annotated[
        str | None,
        typer.Option(
            metavar="install-time|fast-follow|on-demand",
            help="When Google Play delivers a pack; by default install-time.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Package a bundle for Android apps: models as assets, a class for Kotlin and Java, and a test for the phone."""
    from mbn_deploy.packages.android.package import AndroidOptions, write_android_package

    options = AndroidOptions(
        kind=kind,
        runtime=runtime,
        precisions=tuple(name for text in precision or () for name in comma_list(text, "--precision")),
        package=package,
        class_name=class_name,
        min_sdk=min_sdk,
        pack=pack_name,
        delivery=delivery,
    )
    result = write_android_package(path, output, options, overwrite=overwrite)
    for warning in result.warnings:
        print_note(f"warning: {warning}")
    if not result.golden:
        print_note("warning: the bundle has no golden vectors, so the package has no test for the phone")
    if as_json:
        print_json(_facts(result))
    else:
        _print(result)


def _print(result: AndroidPackage) -> None:
    console = stdout()
    console.print(plain(f"{result.folder} and {result.archive}"), soft_wrap=True)
    least = "" if result.min_sdk is None else f", from API level {result.min_sdk}"
    delivery = "" if result.pack is None else f", pack {result.pack} ({result.delivery})"
    console.print(
        f"{result.kind}{delivery}: {result.package}.{result.class_name}, with {result.runtime.name}{least}",
        soft_wrap=True,
    )
    console.print()
    shown = table("model", "size")
    for entry in result.files:
        shown.add_row(plain(entry.path), human_bytes(entry.size))
    console.print(shown)
    console.print()
    console.print(f"The app's download grows by {human_bytes(result.asset_bytes)} and {result.runtime.name}.")
    console.print("README.md says how to add it to a project.")


def _facts(result: AndroidPackage) -> dict[str, Any]:
    return {
        "folder": str(result.folder),
        "archive": str(result.archive),
        "kind": result.kind,
        "runtime": result.runtime.name,
        "dependencies": list(result.runtime.dependencies),
        "package": result.package,
        "class": result.class_name,
        "min_sdk": result.min_sdk,
        "pack": result.pack,
        "delivery": result.delivery,
        "models": {entry.path: entry.size for entry in result.files},
        "asset_bytes": result.asset_bytes,
        "golden": result.golden,
        "warnings": list(result.warnings),
        "files": list(result.written),
    }
