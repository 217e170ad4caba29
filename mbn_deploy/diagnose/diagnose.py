"""Find the layers of an int8 file that lose accuracy, by comparing its tensors with the float file's on images.

Both files run in their interpreters, and every tensor that both have is compared: this is the error as it
accumulates. The error of a layer alone is computed from the weights and scales in the quantized file. The operations
between two compared tensors get the float file's exact values, in the scale in which the quantized file holds them, and
their results are rounded wherever the file rounds. Put into the float network in place of the exact tensor, such a
result shows what this layer alone does to the output; the diagnosis is sorted by that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mbn_deploy.diagnose.comparison import ModelComparison, chunks
from mbn_deploy.diagnose.layer_errors import Diagnosis
from mbn_deploy.diagnose.matching import MatchedTensor, is_part, match
from mbn_deploy.diagnose.model_file import DiagnosedModel, load_images, open_model
from mbn_deploy.diagnose.recorded_rescalings import recorded_rescalings
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.graph.rescaling import Rescaling
from mbn_deploy.manifest import Preprocess
from mbn_deploy.progress import Progress, silent

STEP = "compare layers"
DEFAULT_COUNT = 16
# Share of the float file's tensors; in an int8 V3 with the most rewritten form of h-swish three quarters match.
_LEAST_MATCHED = 0.25


def diagnose(
    file: str | Path,
    reference: str | Path,
    data: str | Path,
    *,
    count: int = DEFAULT_COUNT,
    seed: int = 0,
    resize: str | None = None,
    preprocess: str | Preprocess | None = None,
    rescalings: Mapping[str, Rescaling] | None = None,
    progress: Progress = silent,
) -> Diagnosis:
    """Compare a quantized file with a float file of the same model, layer by layer.

    Args:
        file: the quantized file, .tflite or .onnx.
        reference: the float file, .tflite or .onnx.
        data: a folder with images, also in sub-folders.
        count: how many images to use.
        seed: chooses the images, by a hash of seed and name.
        resize: as for `Classifier.open`, for files that do not say how pictures become their input.
        preprocess: as `resize`.
        rescalings: by tensor, at which scale and centre the quantized file holds its channels. By default they are
            read from the bundle that one of the files lies in; files of other makers have none.
        progress: is told of every chunk of images.

    Raises:
        InputError: a file or an image cannot be read, the files have too few tensors in common, or a file of this
            program is in no bundle that has a record of its rescaled channels.
        UsageError: the reference is quantized, the file is not, or nothing says how pictures become an input.
    """
    quantized, exact = (open_model(Path(path), resize, preprocess) for path in (file, reference))
    tensors = match_models(quantized, exact)
    if rescalings is None:
        rescalings = recorded_rescalings(quantized, Path(file).parent, Path(reference).parent)
    images = load_images(Path(data), (quantized, exact), count, seed, progress)
    comparison = ModelComparison(quantized, exact, tensors, rescalings)
    done = 0
    for pixels in chunks(images, exact.graph):
        comparison.add(pixels)
        done += len(pixels)
        progress(STEP, done, len(images))
    return comparison.result()


def match_models(quantized: DiagnosedModel, exact: DiagnosedModel) -> list[MatchedTensor]:
    """Return the tensors that both files have in common; errors are those of `diagnose`."""
    if quantized.size != exact.size:
        raise InputError(
            f"{quantized.where} takes pictures of {quantized.size}, {exact.where} of {exact.size}: "
            "they are not of one model"
        )
    tensors = match(quantized.graph, exact.graph)
    if any(tensor.name in exact.graph.params for tensor in tensors):
        raise UsageError(f"{exact.where} is quantized; the reference must be a float file of the same model")
    if not quantized.graph.params:
        raise UsageError(f"{quantized.where} is not quantized: there is nothing to compare")
    computed = [op.output for op in exact.graph.ops if not op.moves_only and not is_part(op.output, exact.graph)]
    if len(tensors) < _LEAST_MATCHED * len(computed):
        raise InputError(
            f"{quantized.where} and {exact.where} have {len(tensors) or 'none'} of {len(computed)} tensors in common, "
            "by name and shape; layers are matched by name, so both files must come from one export of one model"
        )
    return tensors
