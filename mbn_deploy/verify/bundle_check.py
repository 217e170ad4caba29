"""Verifies a bundle: its manifest against what its files say of themselves, and its files against golden vectors."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass
from os import PathLike

from mbn_deploy.arguments import check_path
from mbn_deploy.errors import InputError, UsageError, VerificationError
from mbn_deploy.manifest import ModelFile
from mbn_deploy.runtime.bundle import OpenedBundle, check_file
from mbn_deploy.runtime.system.child import ChildError
from mbn_deploy.verify.description_check import Disagreement, check_description
from mbn_deploy.verify.golden import Golden, open_golden
from mbn_deploy.verify.interpreter_process import InterpreterProcess, NoProcessError
from mbn_deploy.verify.replay import GoldenResult, replay, replay_in_child, replayable, result_from_fields


@dataclass(frozen=True)
class BundleCheck:
    """The verification of a bundle.

    Attributes:
        files: the files whose golden vectors were replayed.
        disagreements: what the manifest states otherwise than a file itself.
        without_vectors: names of files that have no golden outputs, so that nothing says what they must answer.
        not_replayed: names of files that no interpreter here runs, or not the one that was asked for.
    """

    files: tuple[GoldenResult, ...]
    disagreements: tuple[Disagreement, ...]
    without_vectors: tuple[str, ...]
    not_replayed: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing disagrees, every file has golden vectors, and every file that was replayed passed."""
        return not self.disagreements and not self.without_vectors and all(result.passed for result in self.files)


def verify_bundle(
    folder: str | PathLike[str], *, backend: str | None = None, threads: int | None = None
) -> BundleCheck:
    """Compare a bundle's files with the manifest, and replay the golden vectors of those that run here.

    Args:
        folder: the bundle.
        backend: replay only the files that this interpreter runs.
        threads: number of threads; by default that of `open_backend`.

    Raises:
        InputError: the bundle is damaged, or has no golden vectors or impossible tolerances.
        UsageError: no file of the bundle can be replayed, and nothing else is wrong with it.
        MissingExtraError: the interpreter is not installed.
        VerificationError: a file answers with values that are not finite, or crashes its interpreter.
    """
    opened, golden = open_golden(check_path("folder", folder))
    files = opened.manifest.files
    without_vectors = [entry.path for entry in files if entry.path not in golden.outputs]
    disagreements: list[Disagreement] = []
    for entry in files:
        data = check_file(opened.folder, entry)
        with suppress(InputError) if entry.path in without_vectors else nullcontext():  # it has failed already
            disagreements += check_description(opened, entry, data)
    runnable = replayable(files, backend)
    entries = [entry for entry in runnable if entry.path in golden.outputs]
    if not entries and not disagreements and not without_vectors:
        raise UsageError(f"{folder}: no file in it can be replayed{f' by {backend}' if backend else ''}")
    wrong = {found.file for found in disagreements}
    results = []
    with InterpreterProcess() as process:
        for entry in entries:
            try:
                results.append(_replayed(process, opened, golden, entry, backend=backend, threads=threads))
            except InputError:  # noqa: PERF203 (a file that is not what the manifest says may not run as it says)
                if entry.path not in wrong:
                    raise
    return BundleCheck(
        files=tuple(results),
        disagreements=tuple(disagreements),
        without_vectors=tuple(without_vectors),
        not_replayed=tuple(entry.path for entry in files if entry not in runnable),
    )


def _replayed(
    process: InterpreterProcess,
    opened: OpenedBundle,
    golden: Golden,
    entry: ModelFile,
    *,
    backend: str | None,
    threads: int | None,
) -> GoldenResult:
    """Replay a file in the child process, since kernels abort on some damaged files; here if none can be started.

    Raises `VerificationError` if the process ends, and the errors of `replay`.
    """
    try:
        return result_from_fields(process.call(replay_in_child, str(opened.folder), entry.path, backend, threads))
    except NoProcessError:
        return replay(opened, golden, entry, backend=backend, threads=threads)
    except ChildError as error:
        raise VerificationError(
            f"{opened.folder / entry.path}: its interpreter, in a process of its own, {error}"
        ) from error
