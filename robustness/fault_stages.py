"""The stages that faults are tried on: all that this program writes, each in two versions that differ."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mbn_deploy.hashing import sha256_of_parts

if TYPE_CHECKING:
    from mbn_deploy.runtime.threads import ThreadRecord

TESTS = Path(__file__).resolve().parents[1] / "tests" / "helpers"
INPUT = 3  # the exit code of what cannot be written
VARIANT = "mobilenet_v1_0.25_32"
RECORD = f"sweep/records/{VARIANT}.json"
TABLES = tuple(f"sweep/table.{suffix}" for suffix in ("csv", "html", "json"))
PACKAGE = ("package", "package.tar.gz")
NETWORK = ("mobilenet_v1", "0.25", "32")  # with what ships of it, the smallest that is trained


@dataclass(frozen=True)
class Stage:
    """`work` writes `outputs` (paths in a folder of their own) anew, as version 0 or 1, over what stands there.

    `unlike` outputs hold measured times or failures: not compared. `forked` stages run in a fork of this process,
    which has loaded no framework; others are commands in a process that begins anew.

    What takes long is tried less: at every `cost`-th change, and at so many `moments` by the clock. An undisturbed run
    follows every `undisturbed_every`-th disturbed one. With `in_worker`, changes are those of the process that the
    command starts to work in; a kill is one of both.
    """

    name: str
    outputs: tuple[str, ...]
    work: Callable[[Path, int], None]
    unlike: tuple[str, ...] = ()
    forked: bool = True
    cost: int = 1
    moments: int = 10
    undisturbed_every: int = 1
    in_worker: bool = False


def stages(bundle: Path) -> list[Stage]:
    """Return all stages. `bundle` has an int8 and a float32 `.tflite` file; wheels are written beside it."""
    return [
        Stage("bundle", ("dist",), _bundle(bundle)),
        Stage("bundle without exchange of folders", ("dist",), _bundle(bundle, exchange=False)),
        Stage("bundle android", PACKAGE, _package(bundle, "android", "--class-name", "Net"), cost=2),
        Stage("bundle ios", PACKAGE, _package(bundle, "ios", "--class-name", "Net"), cost=2),
        Stage("bundle c-array", PACKAGE, _package(bundle, "c-array", "--name", "net"), cost=7, moments=4),
        Stage("thread counts in the cache", ("mbn-deploy",), _cache),
        Stage("thread counts in a manifest", ("dist",), _manifest(bundle)),
        Stage("sweep (record and tables)", (RECORD, *TABLES), _sweep),
        *commands(bundle),
    ]


def commands(bundle: Path) -> tuple[Stage, ...]:
    """Return the stages that are whole commands, in a process that begins anew."""
    return (
        Stage("bundle pi", PACKAGE, _board(bundle), forked=False, cost=8, moments=6),
        Stage("export (whole command)", ("dist",), _export, forked=False, cost=6, moments=20, undisturbed_every=6),
        # Its tables tell of a variant that could not be written: a third state, which a full disk rightly makes.
        Stage(
            "sweep (whole command)",
            (f"sweep/{VARIANT}",),
            _swept,
            (RECORD, *TABLES),
            forked=False,
            cost=8,
            moments=6,
            undisturbed_every=3,
        ),
        Stage(
            "sweep (its worker)",
            (f"sweep/{VARIANT}",),
            _swept,
            (RECORD, *TABLES),
            forked=False,
            cost=8,
            moments=2,
            undisturbed_every=3,
            in_worker=True,
        ),
    )


# What forks need is loaded before them, once; but no interpreter, whose threads a fork would not take along.
_LOADED = (
    "cli.main",
    "packages.android.package",
    "packages.ios.package",
    "packages.micro.package",
    "bundle.write",
    "runtime.threads",
    "sweep.plan",
    "sweep.record",
    "sweep.write",
)


def load() -> None:
    """Import what forked stages need."""
    for name in _LOADED:
        import_module(f"mbn_deploy.{name}")


def command(arguments: Sequence[str | Path]) -> None:
    """Run the command line in this process, which it ends."""
    from mbn_deploy.cli.main import main

    sys.argv[1:] = [str(argument) for argument in arguments]
    main()


def _guarded(work: Callable[[], object]) -> None:
    """Run `work`; its errors end this process as those of a command do."""
    from mbn_deploy.cli.output import print_error
    from mbn_deploy.errors import MbnError

    try:
        work()
    except MbnError as error:
        print_error(f"error: {error}")
        sys.exit(error.exit_code)


def _bundle(bundle: Path, *, exchange: bool = True) -> Callable[[Path, int], None]:
    """Return a stage that writes a bundle, as an export does last; in version 1 the manifest has a space at its end."""
    files = {path.name: path.read_bytes() for path in sorted(bundle.iterdir())}

    def work(folder: Path, version: int) -> None:
        from mbn_deploy.bundle import atomic_folder
        from mbn_deploy.bundle.write import write_bundle

        if not exchange:
            atomic_folder.exchange_folders = lambda *_: False
        contents = files | {"manifest.json": files["manifest.json"] + b" " * version}
        _guarded(lambda: write_bundle(folder / "dist", contents, overwrite=True))

    return work


def _package(bundle: Path, kind: str, option: str, value: str) -> Callable[[Path, int], None]:
    def work(folder: Path, version: int) -> None:
        target = folder / "package"
        command(["bundle", kind, bundle, "-o", target, "--overwrite", option, f"{value}{version}"])

    return work


def _board(bundle: Path) -> Callable[[Path, int], None]:
    """Return a stage that runs `bundle pi` with stand-ins for wheels, fetched by the real pip."""
    wheels = bundle.with_name(f"{bundle.name}-wheels")
    if not wheels.exists():
        sys.path.append(str(TESTS))
        from made_wheels import write_wheels

        write_wheels(wheels)

    def work(folder: Path, version: int) -> None:
        precision = ("int8", "float32")[version]
        target = folder / "package"
        command(["bundle", "pi", bundle, "-o", target, "--overwrite", "--wheels", wheels, "--precision", precision])

    return work


def _cache(folder: Path, version: int) -> None:
    from mbn_deploy.runtime.threads import write_cache

    os.environ["XDG_CACHE_HOME"] = str(folder)
    problem = write_cache([_thread_record(version)])
    if problem is not None:
        sys.stderr.write(f"error: {problem}\n")
        sys.exit(INPUT)


def _thread_record(version: int) -> ThreadRecord:
    from mbn_deploy.runtime.threads import ThreadRecord

    return ThreadRecord("0" * 64, 1, "litert", "1", "machine", 1 + version, {"1": 1.0})


def _manifest(bundle: Path) -> Callable[[Path, int], None]:
    files = {path.name: path.read_bytes() for path in sorted(bundle.iterdir())}

    def work(folder: Path, version: int) -> None:
        from mbn_deploy.runtime.threads import write_to_bundle

        target = folder / "dist"
        if not target.exists():  # the bundle itself stands before anything is tried
            target.mkdir()
            for name, data in files.items():
                (target / name).write_bytes(data)
        _guarded(lambda: write_to_bundle(target, [_thread_record(version)]))

    return work


def _sweep(folder: Path, version: int) -> None:
    """Write what a sweep writes beside its bundles, for a variant that failed."""
    from mbn_deploy.pipeline.options import ExportOptions
    from mbn_deploy.sweep.plan import networks, plan_jobs
    from mbn_deploy.sweep.record import Record, write_record
    from mbn_deploy.sweep.table import rows
    from mbn_deploy.sweep.write import write_tables

    out = folder / "sweep"
    job = plan_jobs(networks(["mobilenet_v1"], [0.25], [32], weights="none"), out, ExportOptions(precisions="float32"))[
        0
    ]
    record = replace(Record(job.variant.name, job.fingerprint, "failed", exit_code=INPUT), error=f"version {version}")

    def work() -> None:
        write_record(job, record)
        write_tables(out, rows([job], [record], [None], None), None)

    _guarded(work)


def _export(folder: Path, version: int) -> None:
    """Run the whole export, on the network that ships with this program."""
    from importlib import resources

    weights = str(resources.files("mbn_deploy.demo") / "mobilenet_v1_0.25_32.weights.h5")
    model, alpha, size = NETWORK
    options = f"--alpha {alpha} --size {size} --classes 10 --no-report --precisions float32"
    output: list[str | Path] = [
        "-o",
        folder / "dist",
        "--overwrite",
        "--weights",
        weights,
        "--preprocess",
        f"{100 + version}/255",
    ]
    command(["export", model, *options.split(), *output])


def _swept(folder: Path, version: int) -> None:
    """Run a whole sweep of one variant, which other options make anew."""
    model, alpha, size = NETWORK
    variant = f"--models {model} --alphas {alpha} --sizes {size} --classes 10 --weights none"
    files = f"--formats tflite --precisions float32 --seconds 0 --resize {('squash', 'crop')[version]}"
    command(["sweep", "-o", folder / "sweep", *variant.split(), *files.split()])


def found(folder: Path, outputs: Sequence[str]) -> dict[str, str | None]:
    """Hash what each output holds, without temporary files; None for an output that is missing."""
    return {name: _hash(folder / name) for name in outputs}


def _hash(path: Path) -> str | None:
    if not path.exists():
        return None
    files = [file for file in sorted([path, *path.rglob("*")]) if file.is_file() and not is_temporary(file)]
    contents = ((file.relative_to(path).as_posix(), file.read_bytes()) for file in files)
    return sha256_of_parts(f"{name}\0{len(data)}\0".encode() + data for name, data in contents)


def is_temporary(path: Path) -> bool:
    """Return whether the name is one of a file that has not taken its place yet, or has left it."""
    return path.name.startswith(".") and path.suffix in (".tmp", ".old")


def temporary(folder: Path, outputs: Sequence[str]) -> list[str]:
    """List everything in `folder` that is not an output, part of one, or a folder around one."""
    expected = [folder / name for name in outputs]
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if is_temporary(path) or not any(o in (path, *path.parents) or path in o.parents for o in expected)
    )
