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

Source = Annotated[Path, path_argument(metavar="BUNDLE", help="A folder that `export` package.")]
Output = Annotated[Path, path_option("--output", "-o", help="The folder to write; its archive is package beside it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a package that is there.")]


@guarded
def pi(
    path: Source,
    *,
    output: Output,
    python: Annotated[
        str, typer.Option(metavar="3.10|3.11|3.12|3.13", help="The board's Python: Bookworm has 3.11, Trixie 3.13.")
    ] = "3.11",
    arch: Annotated[
        str, typer.Option(metavar="aarch64|armv7l", help="The board's system: 64 or 32 bits, whatever its processor.")
    ] = "aarch64",
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="litert|onnx|tflite", help="The board's interpreter; by default litert, for armv7l tflite."
        ),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="Pack only the files of this precision.")] = None,
    camera: Annotated[
        bool,
        typer.Option("--camera", help="Use picamera2, which comes with numpy and Pillow from the system's packages."),
    ] = False,
    wheels: Annotated[
        list[Path] | None,
        path_option(help="Take wheels from this folder and ask no index; may be repeated."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Package a bundle for ARM boards: models, wheels, an offline installer, a service, and files for rpicam-apps.

    pip fetches the wheels, from wherever its own configuration says.
    """
    from mbn_deploy.packages.pi.board import Board
    from mbn_deploy.packages.pi.package import write_pi_package

    board = Board.of(arch, python, backend, camera=camera)
    with progress_bar() as progress:
        package = write_pi_package(
            path, output, board, precision=precision, wheels=wheels or (), overwrite=overwrite, progress=progress
        )
    if as_json:
        print_json(_facts(package))
    else:
        _print(package)


def _print(package: PiPackage) -> None:
    console, board = stdout(), package.board
    console.print(
        plain(f"{package.folder} and {package.archive} ({human_bytes(package.download_bytes)})"), soft_wrap=True
    )
    console.print(f"For {board.architecture}, Python {board.python} ({board.system}), with {board.backend}.")
    console.print()
    shown = table("in it", "size")
    for entry in package.files:
        shown.add_row(plain(entry.path), human_bytes(entry.size))
    for name, size in sorted(package.wheels.items(), key=lambda item: -item[1]):
        shown.add_row(plain(" ".join(name.split("-")[:2])), human_bytes(size))
    console.print(shown)
    console.print()
    console.print(f"Installed it takes {human_bytes(package.installed_bytes)} beside the models.")
    if package.rpicam is None:
        console.print("rpicam-apps' object_classify_tf cannot use any of the files:", soft_wrap=True)
        for reason in package.rpicam_reasons:
            console.print(plain(f"  {reason}"), soft_wrap=True)
    else:
        console.print(plain(f"For rpicam-apps' object_classify_tf, from {package.rpicam}: rpicam/"), soft_wrap=True)
    if board.packages:
        console.print(f"On the board, first: sudo apt install {' '.join(board.packages)}")
    console.print("On the board, unpack the archive with tar -xzf, and run ./install.sh in it.")


def _facts(package: PiPackage) -> dict[str, Any]:
    board = package.board
    return {
        "folder": str(package.folder),
        "archive": str(package.archive),
        "archive_bytes": package.download_bytes,
        "architecture": board.architecture,
        "python": board.python,
        "backend": board.backend,
        "camera": board.camera,
        "files": [entry.path for entry in package.files],
        "wheels": package.wheels,
        "installed_bytes": package.installed_bytes,
        "debian_packages": list(board.packages),
        "rpicam": package.rpicam,
        "rpicam_added": list(package.rpicam_added),
        "rpicam_reasons": list(package.rpicam_reasons),
    }
