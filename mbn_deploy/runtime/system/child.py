"""Another Python like this one, in which `main` of one of this package's modules runs."""

from __future__ import annotations

import sys


def child_command(module: str, *arguments: str) -> list[str]:
    """The words of its command; `arguments` are what its `sys.argv` has behind the first.

    It finds modules where this process does, and nowhere else: with `python -m` the folder that the user stands in
    would become a place that modules come from.
    """
    code = f"import sys; sys.path[:] = sys.argv.pop(1).split('\\n'); from {module} import main; main()"
    return [sys.executable or "", "-c", code, "\n".join(sys.path), *arguments]
