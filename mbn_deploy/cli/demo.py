"""`mbn-deploy demo`: export, quantize and classify, offline, on data that ships with the package."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mbn_deploy.cli.bundle_table import print_result, result_json
from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import Json, path_option
from mbn_deploy.cli.output import plain, print_json, print_note, stdout
from mbn_deploy.cli.progress_bar import load_frameworks, progress_bar

if TYPE_CHECKING:
    from mbn_deploy.demo.run import Answer, Pictures
    from mbn_deploy.pipeline.export import ExportResult

NAME = "mbn-deploy"


@guarded
def demo(
    *,
    output: Annotated[Path, path_option("--output", "-o", help="Folder for images and bundles.")] = Path("demo-output"),
    as_json: Json = False,
) -> None:
    """Export three small trained models (V1, V2, V3), evaluate their files on handwritten digits, classify some.

    Everything ships with the package; no network is needed.
    """
    from mbn_deploy.demo.networks import DEMO_SPECS
    from mbn_deploy.demo.run import classify_some, export_demo, write_pictures

    start = time.perf_counter()
    pictures = write_pictures(output)
    print_note(f"Handwritten digits: for calibration in {pictures.calibration}, held back in {pictures.held_back}")
    load_frameworks()
    results = []
    for name in DEMO_SPECS:
        with progress_bar(f"{name}: ") as progress:
            result = export_demo(name, output, pictures, progress)
        answers = classify_some(result.bundle, pictures)
        results.append(result_json(result) | {"answers": [_answer(answer) for answer in answers]})
        if not as_json:
            _print(name, result, answers)
    if as_json:
        print_json(results)
    print_note(f"Took {time.perf_counter() - start:.0f} s. Everything is in {output}. Commands to try next:")
    for line in _commands(result.bundle.folder, answers[0].picture, pictures):
        print_note(f"  {_program()} {line}")


def _print(name: str, result: ExportResult, answers: list[Answer]) -> None:
    console = stdout()
    console.print(name)
    print_result(result)
    console.print("Images that the int8 file classified:")
    for answer in answers:
        prediction = answer.prediction
        verdict = "right" if prediction.label == answer.digit else f"wrong, it is {answer.digit}"
        line = f"  {answer.picture}: {prediction.label} ({prediction.score:.1%}), {verdict}"
        console.print(plain(line), soft_wrap=True)
    console.print()


def _answer(answer: Answer) -> dict[str, Any]:
    return {"picture": str(answer.picture), "digit": answer.digit} | asdict(answer.prediction)


def _program() -> str:
    """Return the command's name, with its path if it is not on PATH (`scripts/demo.sh` runs the one in .venv)."""
    path, here = Path(sys.argv[0]), Path.cwd()
    if path.name != NAME or shutil.which(NAME) is not None:
        return NAME
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _commands(bundle: Path, picture: Path, pictures: Pictures) -> list[str]:
    folder = shlex.quote(str(bundle))
    return [
        f"run {folder} {shlex.quote(str(picture))}",
        f"evaluate {folder} --data {shlex.quote(str(pictures.held_back))}",
        f"inspect {folder}/*_int8.tflite",
    ]
