"""A folder of frames."""

from __future__ import annotations

from pathlib import Path

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.images import SUFFIXES


def _is_frame(path: Path) -> bool:
    return not path.name.startswith(".") and not path.is_dir()


class FolderFeed:
    """The images that lie in a folder (not in sub-folders), by name: frame_0002 comes before frame_0010.

    Gives paths: whoever classifies decodes. Hidden files are left out. See `Feed`.
    """

    def __init__(self, folder: str) -> None:
        self.name = folder
        where = Path(folder)
        if not where.is_dir():
            raise InputError(f"{folder}: {'not a folder' if where.exists() else 'no such folder'}")
        try:
            found = [p for p in where.iterdir() if p.suffix.lower() in SUFFIXES and _is_frame(p)]
        except OSError as error:
            raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
        if not found:
            raise InputError(f"{folder}: no images in it (looked for {', '.join(sorted(SUFFIXES))})")
        self._paths = iter(sorted(found))
        self._path: Path | None = None

    def grab(self) -> bool:
        """Step to the next file."""
        self._path = next(self._paths, None)
        return self._path is not None

    def retrieve(self) -> str:
        """The file's path."""
        return str(self._path)

    def wake(self) -> None:
        """Nothing here waits."""

    def release(self) -> None:
        """Nothing is held open."""
