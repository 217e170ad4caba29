"""Frames from a folder of images."""

from __future__ import annotations

from pathlib import Path

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.images import SUFFIXES


def _is_frame(path: Path) -> bool:
    return not path.name.startswith(".") and not path.is_dir()


class FolderFeed:
    """The images of a folder (not of its sub-folders), sorted by name: frame_0002 comes before frame_0010.

    It returns paths, which are decoded in the classifier's threads. Hidden files are ignored. See `Feed`.
    """

    def __init__(self, folder: str) -> None:
        self.name = folder
        where = Path(folder)
        if not where.is_dir():
            raise InputError(f"{folder}: {'not a folder' if where.exists() else 'no such folder'}")
        try:
            paths = [p for p in where.iterdir() if p.suffix.lower() in SUFFIXES and _is_frame(p)]
        except OSError as error:
            raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
        if not paths:
            raise InputError(f"{folder}: it has no images (files that end in {', '.join(sorted(SUFFIXES))})")
        self._paths = iter(sorted(paths))
        self._path: Path | None = None

    def grab(self) -> bool:
        """Step to the next file."""
        self._path = next(self._paths, None)
        return self._path is not None

    def retrieve(self) -> str:
        """Return the file's path."""
        return str(self._path)

    def wake(self) -> None:
        """Do nothing: `grab` never waits."""

    def release(self) -> None:
        """Do nothing: no file stays open."""
