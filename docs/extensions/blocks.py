"""Find the code blocks of pages, run them in order, and put their output after them.

A page's ```python and ```sh blocks run in one folder of their own; the Python blocks share their names, as in a
notebook. What a block prints is shown behind it, so no output on the site was typed. A word behind the language
changes that: `quiet` shows no output, `hidden` shows neither block nor output. Other languages (`text`, `console`,
`kotlin`) are shown and not run. A block that fails is an error with its page and line.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

FENCE = re.compile(r"^```(python|sh)(?: (quiet|hidden))?$")
CLOSING = "```"
PROCESS = Path(__file__).with_name("page_process.py")
SECONDS = 1800  # of a page: the tutorial trains and exports, on a busy machine


class BlockError(Exception):
    """A failed block or an open fence; the message has the page and the line."""


@dataclass(frozen=True)
class Block:
    """A block of a page: `code` begins after `line` (from 1), `end` is the line of the closing fence."""

    language: str
    code: str
    line: int
    end: int
    show: str = ""


def blocks_of(text: str, page: str) -> list[Block]:
    """Return the blocks of a page that are run."""
    found, lines, at = [], text.splitlines(), 0
    while at < len(lines):
        opening = FENCE.match(lines[at])
        if opening:
            if CLOSING not in lines[at:]:
                raise BlockError(f"{page}:{at + 1}: the block has no end")
            end = lines.index(CLOSING, at)
            code = "\n".join(lines[at + 1 : end]) + "\n"
            found.append(Block(opening[1], code, at + 1, end + 1, opening[2] or ""))
            at = end
        at += 1
    return found


def outputs(blocks: list[Block], page: str, *, cache: Path, environment: Mapping[str, str]) -> list[str]:
    """Return what each block prints, from `cache` if the same blocks ran with the same sources of the package."""
    kept = cache / f"{_key(blocks)}.json"
    if not kept.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(run(blocks, page, environment)), encoding="utf-8")
    found: list[str] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def run(blocks: list[Block], page: str, environment: Mapping[str, str]) -> list[str]:
    """Run the blocks in their own process and folder; raises `BlockError`."""
    with tempfile.TemporaryDirectory(prefix="mbn-docs-") as top:
        folder, answer = Path(top) / "work", Path(top) / "outputs.json"
        folder.mkdir()
        job = {"page": page, "answer": str(answer), "blocks": [asdict(block) for block in blocks]}
        ran = subprocess.run(
            [sys.executable, str(PROCESS)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=SECONDS,
            check=False,
            env=_environment(Path(top)) | dict(environment),
        )
        if ran.returncode or not answer.is_file():
            raise BlockError(ran.stderr[ran.stderr.find(f"{page}:") :])
        found: list[str] = json.loads(answer.read_text(encoding="utf-8"))
        return [_tidy(text, folder) for text in found]


def _environment(top: Path) -> dict[str, str]:
    """Return a page's environment: its own home and caches, this Python first, a terminal of 100 columns."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    plain = {
        "TERM": "dumb",
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return {**os.environ, **plain, "PATH": path, "HOME": str(top), "XDG_CACHE_HOME": str(top / "cache")}


def _tidy(text: str, folder: Path) -> str:
    text = text.replace(f"{folder}{os.sep}", "").replace(str(folder), ".")
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def _key(blocks: list[Block]) -> str:
    """Hash these blocks and these sources; the position of the blocks in the page does not matter."""
    found = hashlib.sha256(json.dumps([(b.language, b.code) for b in blocks]).encode())
    package = Path(__file__).parents[2] / "mbn_deploy"
    for path in sorted(p for p in (*package.rglob("*"), PROCESS) if p.is_file() and p.suffix != ".pyc"):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def with_outputs(text: str, blocks: list[Block], found: list[str]) -> str:
    """Return the page with the output of its blocks."""
    lines = text.splitlines()
    for block, output in reversed(list(zip(blocks, found, strict=True))):
        if block.show == "hidden":
            del lines[block.line - 1 : block.end]
            continue
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", output)), default=0))
        shown = ["", f"{fence}{{code-block}} text", ":class: output", "", *output.splitlines(), fence, ""]
        if output and not block.show:
            lines[block.end : block.end] = shown
        lines[block.line - 1] = f"{CLOSING}{block.language}"
    return "\n".join(lines) + "\n"
