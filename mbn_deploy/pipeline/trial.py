"""Try the files of an export: each is run in a child process before this process opens it."""

from __future__ import annotations

from collections.abc import Sequence

from mbn_deploy.arrays import Pixels
from mbn_deploy.export.encode import EncodedModel
from mbn_deploy.pipeline.bundle_files import manifest_entry
from mbn_deploy.pipeline.recipe_search import file_to_run
from mbn_deploy.runtime.backends import default_threads
from mbn_deploy.verify.golden_inputs import operation_inputs
from mbn_deploy.verify.interpreter_process import InterpreterProcess, RunResult, run_files
from mbn_deploy.verify.operation_check import Subject
from mbn_deploy.verify.operation_record import OperationSamples, record_operations


def try_files(
    files: Sequence[EncodedModel], pixels: Pixels
) -> tuple[dict[str, RunResult], dict[str, OperationSamples]]:
    """Run every file on the golden inputs, uint8 (N, H, W, C), and record its operations; both by the file's name.

    Raises:
        VerificationError: names the file that cannot be run, see `run_files`.
    """
    with InterpreterProcess() as process:
        runs = run_files({file.name: file_to_run(file) for file in files}, pixels, process)
        samples = {file.name: _record(process, file, runs[file.name], pixels) for file in files}
    return runs, samples


def _record(process: InterpreterProcess, file: EncodedModel, run: RunResult, pixels: Pixels) -> OperationSamples:
    subject = Subject(
        data=file.data,
        format=file.format,
        precision=file.precision,
        backend=run.backend,
        threads=default_threads(),
        where=file.name,
    )
    return record_operations(process, subject, operation_inputs(manifest_entry(file, run), pixels))
