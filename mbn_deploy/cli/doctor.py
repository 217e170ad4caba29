"""`mbn-deploy doctor`: what this machine can run, and what to install."""

from __future__ import annotations

import textwrap

import typer
from rich.console import Console

from mbn_deploy.cli.exit_codes import guarded
from mbn_deploy.cli.options import Json
from mbn_deploy.cli.output import plain, print_json, stdout, table
from mbn_deploy.cli.progress_bar import hide_startup_messages
from mbn_deploy.errors import MissingExtraError
from mbn_deploy.runtime.doctor.doctor import Doctor, InterpreterReport, examine
from mbn_deploy.runtime.doctor.probe import PRECISIONS


@guarded
def doctor(*, as_json: Json = False) -> None:
    """What this machine can run, what will be fast, and what to install. Exit code 4 if it can run nothing.

    Every interpreter that is installed opens and runs a tiny model. Nothing is fetched.
    """
    with hide_startup_messages():
        found = examine()
    if as_json:
        print_json(found.to_dict())
    else:
        console = stdout()
        _machine(console, found)
        _interpreters(console, found)
        _sentences(console, "What to expect", found.expect)
        _sentences(console, "What is missing", found.missing)
    if not found.works:
        raise typer.Exit(MissingExtraError.exit_code)


def _machine(console: Console, found: Doctor) -> None:
    place, machine = found.place, found.machine
    limit = "" if found.quota is None else f", of which a container's limit leaves {found.quota:g}"
    rows = {
        "Python": f"{found.python} ({place.implementation})",
        "system": place.platform,
        "processor": plain(machine.model),
        "has": "not told by this system" if found.features is None else ", ".join(found.features) or "nothing special",
        "cores": f"{machine.processors} usable{limit}; threads of an inference if nobody says: {found.threads}",
        "memory": _memory(found),
    }
    for name, value in rows.items():
        console.print(f"{name:<10} {value}", soft_wrap=True)
    console.print()


def _memory(found: Doctor) -> str:
    if found.memory is None:
        return "not told by this system"
    free = "" if found.memory_available is None else f", {_gigabytes(found.memory_available)} of it available"
    return _gigabytes(found.memory) + free


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _interpreters(console: Console, found: Doctor) -> None:
    shown = table("interpreter", "for", "installed", "pip has", *PRECISIONS, left=2)
    for report in found.interpreters:
        shown.add_row(
            f"{report.package} ({report.backend})",
            f".{report.format}",
            plain(report.installed or "-"),
            report.available or "no wheel",
            *(_probed(report, precision) for precision in PRECISIONS),
        )
    console.print(shown)
    console.print()
    console.print(
        f"pip has: the newest wheel for this Python on this machine, as of {found.wheels_as_of}. int8, float32: by "
        "which kernels a tiny model of that kind has just run here."
    )


def _probed(report: InterpreterReport, precision: str) -> str:
    """The family; of XNNPACK not how much of the tiny model it took, which JSON tells."""
    probe = next((p for p in report.probes if p.precision == precision), None)
    if probe is None:
        return "-"
    return (
        plain((probe.kernels or "").split(" (")[0].removeprefix("ONNX Runtime ").removesuffix(" kernels"))
        if probe.works
        else "FAILS"
    )


def _sentences(console: Console, title: str, sentences: tuple[str, ...]) -> None:
    if not sentences:
        return
    console.print()
    console.print(f"{title}:")
    for sentence in sentences:
        lines = textwrap.wrap(plain(sentence), console.width - 2, break_long_words=False, break_on_hyphens=False)
        console.print("- " + "\n  ".join(lines), soft_wrap=True)
