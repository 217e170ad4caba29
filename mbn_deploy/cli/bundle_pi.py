"""`mbn-deploy bundle pi BUNDLE -o DIR`: a package for a Raspberry Pi or another ARM board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import Json, path_argument, path_option
from mbn_deploy.cli.output import human_bytes, plain, print_json, stdout, table
from mbn_deploy.cli.progress_bar import progress_bar

if TYPE_CHECKING:
    from mbn_deploy.packages.pi.package import PiPackage

Source = Annotated[Path, path_argument(metavar="BUNDLE", help="A folder that `export` made.")]
Output = Annotated[Path, path_option("--output", "-o", help="The folder to make; its archive lies beside it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a package that is there.")]


@guarded
def pi(
    path: Source,
    *,
    output: Output,
    python: Annotated[
        str, typer.Option(metavar="3.10|3.11|3.12|3.13", help="The board's Python; Bookworm has 3.11, Trixie 3.13.")
    ] = "3.11",
    arch: Annotated[
        str, typer.Option(metavar="aarch64|armv7l", help="The board's system: 64 or 32 bits, whatever its processor.")
    ] = "aarch64",
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="litert|onnx|tflite", help="The board's interpreter; by default litert, on armv7l tflite."
        ),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="Only this precision of the bundle.")] = None,
    camera: Annotated[
        bool,
        typer.Option("--camera", help="For picamera2: it, numpy and Pillow come from the system's packages."),
    ] = False,
    wheels: Annotated[
        list[Path] | None,
        path_option(help="Take wheels from this folder alone, no index is asked; may be repeated."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """For a Raspberry Pi or another ARM board: models, wheels, an offline installer, a service, rpicam-apps' files.

    Wheels are fetched by pip, from where its own configuration says.
    """
    from mbn_deploy.packages.pi.board import Board
    from mbn_deploy.packages.pi.package import package_pi

    board = Board.of(arch, python, backend, camera=camera)
    with progress_bar() as progress:
        made = package_pi(
            path, output, board, precision=precision, wheels=wheels or (), overwrite=overwrite, progress=progress
        )
    if as_json:
        print_json(_facts(made))
    else:
        _print(made)


def _print(made: PiPackage) -> None:
    console, board = stdout(), made.board
    console.print(plain(f"{made.folder} and {made.archive} ({human_bytes(made.download_bytes)})"), soft_wrap=True)
    console.print(f"For {board.architecture}, Python {board.python} ({board.system}), with {board.backend}.")
    console.print()
    shown = table("in it", "size")
    for entry in made.files:
        shown.add_row(plain(entry.path), human_bytes(entry.size))
    for name, size in sorted(made.wheels.items(), key=lambda item: -item[1]):
        shown.add_row(plain(" ".join(name.split("-")[:2])), human_bytes(size))
    console.print(shown)
    console.print()
    console.print(f"Installed it takes {human_bytes(made.installed_bytes)} beside the models.")
    if made.rpicam is None:
        console.print("Nothing for rpicam-apps' object_classify_tf:", soft_wrap=True)
        for reason in made.rpicam_reasons:
            console.print(plain(f"  {reason}"), soft_wrap=True)
    else:
        console.print(plain(f"For rpicam-apps' object_classify_tf, from {made.rpicam}: rpicam/"), soft_wrap=True)
    if board.packages:
        console.print(f"Some of it comes from apt; on the board: sudo apt install {' '.join(board.packages)}")
    console.print("On the board: tar -xzf the archive, then ./install.sh in it.")


def _facts(made: PiPackage) -> dict[str, Any]:
    board = made.board
    return {
        "folder": str(made.folder),
        "archive": str(made.archive),
        "archive_bytes": made.download_bytes,
        "architecture": board.architecture,
        "python": board.python,
        "backend": board.backend,
        "camera": board.camera,
        "files": [entry.path for entry in made.files],
        "wheels": made.wheels,
        "installed_bytes": made.installed_bytes,
        "debian_packages": list(board.packages),
        "rpicam": made.rpicam,
        "rpicam_added": list(made.rpicam_added),
        "rpicam_reasons": list(made.rpicam_reasons),
    }
