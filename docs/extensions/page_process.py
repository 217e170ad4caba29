"""Run the blocks of one page in the current folder: JSON on stdin, their output into a JSON file."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any


def main() -> int:
    """Run the blocks; return 0 if all succeeded."""
    job = json.load(sys.stdin)
    names: dict[str, Any] = {"__name__": "__main__"}
    found = []
    for block in job["blocks"]:
        where = f"{job['page']}:{block['line']}"
        try:
            made = _python(block, where, names) if block["language"] == "python" else _shell(block["code"])
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"{where}: exit code {error.returncode}\n{error.stdout}")
            return 1
        except BaseException:  # noqa: BLE001 (whatever a block does is reported with its place)
            sys.stderr.write(f"{where}: {traceback.format_exc()}")
            return 1
        found.append(made)
    Path(job["answer"]).write_text(json.dumps(found), encoding="utf-8")
    return 0


def _python(block: dict[str, Any], where: str, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * block["line"] + block["code"], where, "exec"), names)  # noqa: S102 (the page's own code)
    return printed.getvalue()


def _shell(code: str) -> str:
    """Return standard output and error mixed as in a terminal; raises `CalledProcessError`."""
    command = ["bash", "-euo", "pipefail", "-c", code]
    merged = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return str(subprocess.run(command, check=True, stdin=subprocess.DEVNULL, **merged).stdout)  # type: ignore[call-overload]


sys.exit(main())
