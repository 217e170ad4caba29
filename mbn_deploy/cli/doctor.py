"""`mbn-deploy doctor`: print what this machine can run, and what to install."""

from __future__ import annotations

import textwrap

import typer
from rich.console import Console

from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import Json
from mbn_deploy.cli.output import plain, print_json, stdout, table
from mbn_deploy.cli.progress_bar import hide_startup_messages
from mbn_deploy.errors import MissingExtraError
from mbn_deploy.runtime.doctor.doctor import DoctorReport, InterpreterReport, examine
from mbn_deploy.runtime.doctor.probe import PRECISIONS
from mbn_deploy.text import plural

UNKNOWN = "not reported by this system"


@guarded
def doctor(*, as_json: Json = False) -> None:
    """Print what this machine can run, what will be fast, and what to install. Exit code 4 if it can run nothing.

    Every installed interpreter opens and runs a tiny model. Nothing is downloaded.
    """
    with hide_startup_messages():
        report = examine()
    if as_json:
        print_json(report.to_dict())
    else:
        console = stdout()
        _print_machine(console, report)
        _print_interpreters(console, report)
        _print_sentences(console, "What to expect", report.expect)
        _print_sentences(console, "What is missing", report.missing)
    if not report.works:
        raise typer.Exit(MissingExtraError.exit_code)


def _print_machine(console: Console, report: DoctorReport) -> None:
    place, machine = report.place, report.machine
    limit = "" if report.quota is None else f", limited to {report.quota:g} by a container"
    rows = {
        "Python": f"{report.python} ({place.implementation})",
        "system": place.platform,
        "processor": plain(machine.model),
        "features": UNKNOWN if report.features is None else ", ".join(report.features) or "none that matter here",
        "cores": f"{machine.processors} usable{limit}; default for an inference: {plural(report.threads, 'thread')}",
        "memory": _memory(report),
    }
    for name, value in rows.items():
        console.print(f"{name:<10} {value}", soft_wrap=True)
    console.print()


def _memory(report: DoctorReport) -> str:
    if report.memory is None:
        return UNKNOWN
    free = "" if report.memory_available is None else f", of which {_gigabytes(report.memory_available)} are available"
    return _gigabytes(report.memory) + free


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _print_interpreters(console: Console, report: DoctorReport) -> None:
    rows = table("interpreter", "for", "installed", "pip has", *PRECISIONS, left=2)
    for interpreter in report.interpreters:
        rows.add_row(
            f"{interpreter.package} ({interpreter.backend})",
            f".{interpreter.format}",
            plain(interpreter.installed or "-"),
            interpreter.available or "no wheel",
            *(_kernels(interpreter, precision) for precision in PRECISIONS),
        )
    console.print(rows)
    console.print()
    console.print(
        f"pip has: the newest wheel for this Python and machine, as of {report.wheels_as_of}. int8, float32: the "
        "kernels that have just run a tiny model of that precision here."
    )


def _kernels(interpreter: InterpreterReport, precision: str) -> str:
    """Return the family of kernels that ran the tiny model; how much of it XNNPACK ran is in the JSON."""
    probe = next((p for p in interpreter.probes if p.precision == precision), None)
    if probe is None:
        return "-"
    if not probe.works:
        return "FAILS"
    family = (probe.kernels or "").split(" (")[0]
    return plain(family.removeprefix("ONNX Runtime ").removesuffix(" kernels"))


def _print_sentences(console: Console, title: str, sentences: tuple[str, ...]) -> None:
    if not sentences:
        return
    console.print()
    console.print(f"{title}:")
    for sentence in sentences:
        lines = textwrap.wrap(plain(sentence), console.width - 2, break_long_words=False, break_on_hyphens=False)
        console.print("- " + "\n  ".join(lines), soft_wrap=True)
