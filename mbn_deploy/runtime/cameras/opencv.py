"""Frames from video devices of Linux (V4L2) and from video files, read by OpenCV, which decodes to BGR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mbn_deploy.arrays import Pixels
from mbn_deploy.errors import InputError, MissingExtraError

Size = tuple[int, int]
_SILENT = 0  # cv2's log level


class CaptureFeed:
    """An opened `cv2.VideoCapture`. See `Feed`.

    `stop_message` is the error for a device that gives no more frames; with None, that is the regular end.
    """

    def __init__(self, capture: Any, name: str, stop_message: str | None) -> None:
        self.name, self._capture, self._stop_message = name, capture, stop_message
        self._first = True

    def grab(self) -> bool:
        """Wait for the next frame, undecoded where the source allows it."""
        if self._capture.grab():
            self._first = False
            return True
        if self._stop_message is not None:
            raise InputError(f"{self.name}: {self._stop_message}")
        if self._first:
            raise InputError(f"{self.name}: OpenCV cannot decode any frame of it")
        return False

    def retrieve(self) -> Pixels:
        """Return the frame as uint8 RGB (H, W, 3)."""
        import cv2

        done, frame = self._capture.retrieve()
        if not done or frame is None:
            raise InputError(f"{self.name}: OpenCV cannot decode a frame of it")
        code = cv2.COLOR_GRAY2RGB if frame.ndim == 2 or frame.shape[2] == 1 else cv2.COLOR_BGR2RGB
        rgb: Pixels = cv2.cvtColor(frame, code)
        return rgb

    def wake(self) -> None:
        """Do nothing: a file does not wait, and a device waits at most until its next frame."""

    def release(self) -> None:
        """Close the file or device."""
        self._capture.release()


def open_device(device: str, size: Size) -> CaptureFeed:
    """Open a device such as /dev/video0 and request frames of `size` (width, height); it may choose another size."""
    name = f"v4l2:{device}"
    cv2 = _opencv("to read video devices")
    if not Path(device).exists():
        known = ", ".join(str(path) for path in sorted(Path("/dev").glob("video*"))) or "none"
        raise InputError(f"{name}: no such device (video devices here: {known}); is the camera plugged in?")
    capture = _capture(cv2, device, cv2.CAP_V4L2)
    if not capture.isOpened():
        raise InputError(
            f"{name}: cannot be opened as a camera; another program may be using it, this user may not be in the group "
            "'video', or it is a device of a camera that gives no images (v4l2-ctl --list-devices lists them)"
        )
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    return CaptureFeed(capture, name, "it gives no more frames; is it still plugged in? Plug it in and start again")


def open_video(file: str) -> CaptureFeed:
    """Open a video file; OpenCV turns it upright if the file says how."""
    cv2 = _opencv("to read video files")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{file}: {'a folder, not a video' if path.is_dir() else 'no such file'}")
    capture = _capture(cv2, str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise InputError(f"{file}: not a video that OpenCV can read, or damaged, or without permission to read it")
    return CaptureFeed(capture, file, None)


def _capture(cv2: Any, source: str, kind: int) -> Any:
    """Try to open a source without OpenCV's warnings on stderr; the caller reports a failure."""
    log = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # OpenCV 4, OpenCV 5
    level = log.getLogLevel()
    log.setLogLevel(_SILENT)
    try:
        return cv2.VideoCapture(source, kind)
    finally:
        log.setLogLevel(level)


def _opencv(purpose: str) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError("OpenCV", "camera", purpose) from error
    return cv2
