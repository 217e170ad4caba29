"""Try one damage: what it does to the answers, and what `verify` says.

Everything that touches an interpreter runs in a forked process, since a damaged file may end it.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from damage_bundle import Damaged
from damage_kinds import KINDS, Mistake
from damage_pictures import Folder, load, pixels

from mbn_deploy.manifest import MANIFEST_NAME, Manifest, ModelFile, preprocess_from_dict

LEAST = 0.01  # share of pictures with another answer
SECONDS = 120  # of processor time
_MEMORY = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a folder of its own is made there


@dataclass(frozen=True)
class Trial:
    """The result of one damage.

    Attributes:
        network: the bundle.
        file: the kind of file, as "tflite int8".
        mistake: the damage.
        what: where it was done.
        changed: the share of pictures that get another answer; None if the file does not run any more.
        accuracy: top-1 with the damage.
        exit_code: that of `verify`; negative if it crashed or was not tried.
    """

    network: str
    file: str
    mistake: Mistake
    what: str
    changed: float | None
    accuracy: float | None
    exit_code: int

    @property
    def relevant(self) -> bool:
        """Whether enough answers change."""
        return self.changed is not None and self.changed >= LEAST

    @property
    def seen(self) -> bool:
        """Whether `verify` says no."""
        return self.exit_code != 0


def prepare() -> None:
    """Import what the forked processes need, so that each does not do it again."""
    from mbn_deploy.export.onnx.builder import onnx_module
    from mbn_deploy.export.tflite.builder import schema
    from mbn_deploy.runtime.backends.modules import preload

    preload(("litert", "onnx"))
    schema()
    onnx_module()


def open_damaged(folder: Path, target: str) -> Damaged:
    """Read a bundle as if it had only the target, with the golden vectors of all; keep the other files to exchange."""
    manifest = json.loads((folder / MANIFEST_NAME).read_text("utf-8"))
    entry = next(each for each in manifest["files"] if each["path"] == target)
    alike = [e["path"] for e in manifest["files"] if e["format"] == entry["format"] and e["path"] != target]
    manifest["files"] = [entry]
    return Damaged(
        manifest=manifest,
        target=target,
        files={name: (folder / name).read_bytes() for name in (target, manifest["labels"])},
        others={name: (folder / name).read_bytes() for name in alike},
    )


def damage(folder: Path, target: str, mistake: Mistake) -> tuple[Damaged, str] | None:
    """Return the damaged bundle and what was changed; None if there is nothing of this kind in the file."""
    bundle = copy.deepcopy(open_damaged(folder, target))
    rng = np.random.default_rng([mistake.seed, crc32(f"{target} {mistake.room} {mistake.kind}".encode())])
    what = KINDS[mistake.room][mistake.kind](bundle, rng)
    if what is None:
        return None
    bundle.settle()
    return bundle, what


def write(bundle: Damaged, sound: Path, folder: Path) -> None:
    """Write a bundle with the golden vectors of the sound one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in bundle.files.items():
        (folder / name).write_bytes(data)
    (folder / MANIFEST_NAME).write_text(json.dumps(bundle.manifest), encoding="utf-8")
    if bundle.manifest["golden"] is not None:
        shutil.copyfile(sound / bundle.manifest["golden"], folder / bundle.manifest["golden"])


def answers(bundle: Damaged, folder: Folder | None = None) -> list[list[str]]:
    """Return the names that are given to the pictures: by the bundle, by the model file alone, and by MediaPipe.

    The second takes preprocessing and labels from the file's own description, the last one labels from the archive
    behind the file.
    """
    from mbn_deploy.runtime.backends import open_backend

    manifest = Manifest.from_json(json.dumps(bundle.manifest))
    entry = manifest.files[0]
    backend = open_backend(bundle.files[entry.path], entry.format, threads=1, where=entry.path, vouched=True)
    try:
        by_bundle = _classes(backend, entry, folder)
        model = bundle.open()
        said: dict[str, Any] = {}
        model.describe(lambda text: said.update(json.loads(text)) or text)
        alone = replace(
            entry, preprocess=preprocess_from_dict(said["preprocess"]), input=backend.input, output=backend.output
        )
        same = (alone.preprocess, alone.input, alone.output) == (entry.preprocess, entry.input, entry.output)
        by_file = by_bundle if same else _classes(backend, alone, folder)
    finally:
        backend.close()
    google = getattr(model, "files", {}).get("labels.txt", b"").decode().splitlines() or bundle.labels
    views = [(by_bundle, bundle.labels), (by_file, said["labels"]), (by_file, google)]
    return [[names[index] for index in indices] for indices, names in views]


def _classes(backend: Any, entry: ModelFile, folder: Folder | None) -> list[int]:
    from mbn_deploy.verify.runner import FileRunner

    height, width, channels = entry.picture
    runner = FileRunner(backend, entry.preprocess, entry.layout, entry.input, entry.output)
    scores = runner(pixels(folder, entry.preprocess, (height, width), channels))
    return [int(index) for index in np.nan_to_num(scores, nan=-1e30).argmax(1)]


def verify(folder: Path, *words: str, xnnpack: bool = True) -> int:
    """Return the exit code of `mbn-deploy verify FOLDER`, run in this process; without XNNPACK if asked."""
    from typer.testing import CliRunner

    from mbn_deploy.cli.main import app

    if not xnnpack:
        _leave_out_xnnpack()
    return int(CliRunner().invoke(app, ["verify", str(folder), *words]).exit_code)


def _leave_out_xnnpack() -> None:
    """Let LiteRT use its built-in kernels in this process, as on processors for which it has no XNNPACK."""
    from mbn_deploy.runtime.backends.modules import load_interpreter

    module = load_interpreter("litert")
    plain = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    initialize = module.Interpreter.__init__

    def without_delegate(self: Any, *words: Any, **named: Any) -> None:
        if named.get("experimental_op_resolver_type", module.OpResolverType.AUTO) == module.OpResolverType.AUTO:
            named["experimental_op_resolver_type"] = plain
        initialize(self, *words, **named)

    module.Interpreter.__init__ = without_delegate


def try_one(
    sound: Path, target: str, mistake: Mistake, *, data: Folder | None = None, xnnpack: bool = True
) -> Trial | None:
    """Damage a bundle, and find out what changes and what `verify` says; None if there is nothing of this kind."""
    made = forked(lambda: damage(sound, target, mistake), None)
    if made is None:
        return None
    bundle, what = made
    file = f"{bundle.entry['format']} {bundle.entry['precision']}"
    trial = Trial(sound.name, file, mistake, what, None, None, -1)
    after = forked(lambda: answers(bundle, data), None)
    if after is None:
        return trial
    pictures, before = load(data), sound_answers(sound, target, data)
    changed = max(pictures.share(old, new) for old, new in zip(before, after, strict=True))
    trial = replace(trial, changed=changed, accuracy=pictures.right(after[0]))
    if not trial.relevant:
        return trial
    with tempfile.TemporaryDirectory(dir=_MEMORY) as place:
        where = Path(place) / "bundle"
        write(bundle, sound, where)
        return replace(trial, exit_code=forked(lambda: verify(where, "--threads", "1", xnnpack=xnnpack), -1))


@cache
def sound_answers(sound: Path, target: str, data: Folder | None) -> list[list[str]]:
    """Return the answers of an undamaged file, see `answers`.

    Raises:
        RuntimeError: it does not run.
    """
    found = forked(lambda: answers(open_damaged(sound, target), data), None)
    if found is None:
        raise RuntimeError(f"{sound / target} does not run undamaged")
    listed: list[list[str]] = found
    return listed


def forked(action: Callable[[], Any], otherwise: Any) -> Any:
    """Return what `action` returns in a forked process; `otherwise` if it raises or the process is ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(action, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    return pickle.loads(data) if data else otherwise  # noqa: S301 - of our own child


def _child(action: Callable[[], Any], writer: int) -> None:
    try:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        signal.alarm(10 * SECONDS)
        with os.fdopen(writer, "wb") as stream:
            stream.write(pickle.dumps(action()))
    except BaseException:  # noqa: BLE001, S110 (told by the missing answer)
        pass
    finally:
        os._exit(0)
