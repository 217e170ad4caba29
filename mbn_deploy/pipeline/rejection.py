"""The message for a precision of which no recipe keeps the accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mbn_deploy.diagnose.diagnose import diagnose
from mbn_deploy.errors import MbnError
from mbn_deploy.export.encode import EncodedModel
from mbn_deploy.pipeline.encoding import Attempt
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.recipe_search import SearchResult
from mbn_deploy.runtime.system.temporary import scratch
from mbn_deploy.verify.guard import sentence

WORST = 5  # layers that are named
DIAGNOSED = 8  # images that they are looked for on


def rejection(rejected: Sequence[SearchResult], files: Sequence[EncodedModel], options: ExportOptions) -> str:
    """Say which recipes were tried and what each loses, and name the layers that lose most by the last of them.

    Args:
        rejected: the searches without an accepted recipe.
        files: the other files of the export; a float32 file among them is what layers are compared with.
        options: the options of the export.
    """
    data = Path(options.evaluate or options.calibrate or "")
    data = data.parent if data.is_file() else data  # a table lies above its images
    return ". ".join(_rejection(search, files, data, options.max_drop or 0.0) for search in rejected)


def _rejection(search: SearchResult, files: Sequence[EncodedModel], data: Path, max_drop: float) -> str:
    tried = "; ".join(f"{result.recipe}: {sentence(result.verdict, max_drop)}" for result in search.results)
    layers = _worst_layers(search.last_tried, files, data)
    return f"no {search.precision} file keeps the accuracy within {max_drop:g} points. Tried: {tried}. {layers}"


def _worst_layers(attempt: Attempt, files: Sequence[EncodedModel], data: Path) -> str:
    file = attempt.files[0]
    reference = next((f for f in files if f.format == file.format and f.precision == "float32"), None)
    if reference is None or not data.is_dir():
        return "Export float32 too, and see with: mbn-deploy inspect INT8 --reference FLOAT32 --data IMAGES"
    try:
        with scratch("diagnosis") as folder:
            for written in (file, reference):
                (folder / written.name).write_bytes(written.data)
            report = diagnose(
                folder / file.name,
                folder / reference.name,
                data,
                count=DIAGNOSED,
                rescalings=attempt.quantization.rescalings,
            )
    except (MbnError, OSError) as error:  # the verdict stands without it
        return f"The layers that lose most could not be determined: {error}"
    return "The layers that lose most: " + ", ".join(row.layer for row in report.layers[:WORST])
