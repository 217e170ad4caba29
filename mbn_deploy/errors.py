"""The exception tree and its exit codes.

    MbnError                    base of everything this package raises on purpose
    ├── UsageError               2   wrong use: an option's value, a combination of options
    │   └── UnknownNameError     2   an unknown name; carries the near ones
    ├── InputError               3   a file, image, model or folder that cannot be used
    ├── MissingExtraError        4   an optional dependency is not installed; names the pip line
    └── VerificationError        5   a verification failed: accuracy guard, golden vectors

Exit code 0 means done, 1 means a bug in this program, 130 that the user pressed Ctrl-C.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MbnError(Exception):
    """Base class: a problem that the user can do something about."""

    exit_code = 1


class UsageError(MbnError):
    """An option's value or a combination of options that makes no sense."""

    exit_code = 2


class UnknownNameError(UsageError):
    """An unknown name. The message lists the near names, or all of them."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
        super().__init__(f"unknown {what} {name!r}; {hint}")
        self.near = near


class InputError(MbnError):
    """An input (file, folder, image, model) that cannot be used as it is."""

    exit_code = 3


class MissingExtraError(MbnError):
    """An optional dependency is missing. The message carries the exact install line.

    `install` is that line where it is not pip that brings the package; `extra` is then None.
    """

    exit_code = 4

    def __init__(self, package: str, extra: str | None, purpose: str, *, install: str | None = None) -> None:
        line = install or f"pip install 'mbn-deploy[{extra}]'"
        super().__init__(f"{package} is needed {purpose}; install it with: {line}")
        self.package, self.extra, self.purpose = package, extra, purpose


class VerificationError(MbnError):
    """A failed verification of a model or bundle: accuracy guard, golden vectors, an app's models."""

    exit_code = 5
