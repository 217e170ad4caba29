"""Frames from the cameras of a Raspberry Pi, read by picamera2 (see its manual and raspberrypi/picamera2)."""

from __future__ import annotations

from concurrent.futures import TimeoutError as NotYet
from threading import Event
from time import monotonic
from typing import Any

import numpy as np

from mbn_deploy.arrays import Pixels
from mbn_deploy.errors import InputError, MissingExtraError

# The Debian package brings libcamera's Python bindings, which no wheel has; a venv sees them only with the option.
INSTALL = "sudo apt install python3-picamera2, and a venv that sees it: python3 -m venv --system-site-packages .venv"
# libcamera names formats by the order of bits in a little-endian word: BGR888 is R, G, B in memory (the Picamera2
# manual, appendix A). RGB888, its default, would be B, G, R.
FORMAT = "BGR888"
SILENCE = (
    10.0  # seconds without a frame, longer than any exposure of a video mode: the cable is off or the camera hangs
)
_POLL = 0.2  # seconds between checks whether the feed is being closed


class Picamera2Feed:
    """Camera `number` with frames of `size` (width, height). See `Feed`.

    With `queue=False` picamera2 keeps no frames for later: `grab` gets the next one, which is the newest.
    """

    def __init__(self, number: int, size: tuple[int, int]) -> None:
        try:
            from picamera2 import Picamera2
        except ImportError as error:
            raise MissingExtraError("picamera2", None, "to use a Raspberry Pi's camera", install=INSTALL) from error
        self.name = f"picamera2:{number}"
        self._woken = Event()
        self._frame: Pixels | None = None
        cameras = len(Picamera2.global_camera_info())
        if number >= cameras:
            raise InputError(
                f"{self.name}: {cameras} camera(s) found (rpicam-hello --list-cameras); is the cable plugged in?"
            )
        self._camera: Any = None
        try:
            self._camera = Picamera2(number)
            self._camera.configure(
                self._camera.create_video_configuration(main={"size": size, "format": FORMAT}, queue=False)
            )
            self._camera.start()
        except RuntimeError as error:
            self.release()
            raise InputError(f"{self.name}: cannot be started; another program may be using it: {error}") from error

    def grab(self) -> bool:
        """Wait for the next frame; return False when woken."""
        job = self._camera.capture_array("main", wait=False)
        start = monotonic()
        while not self._woken.is_set():
            try:
                frame = job.get_result(timeout=_POLL)
            except NotYet:
                if monotonic() - start > SILENCE:
                    raise InputError(
                        f"{self.name}: no frame for {SILENCE:.0f} s; check the camera's cable, then start again"
                    ) from None
                continue
            self._frame = np.ascontiguousarray(frame)
            return True
        return False

    def retrieve(self) -> Pixels:
        """Return the frame as uint8 RGB (H, W, 3)."""
        if self._frame is None:
            raise InputError(f"{self.name}: no frame was grabbed")
        return self._frame

    def wake(self) -> None:
        """End a `grab` within a fifth of a second."""
        self._woken.set()

    def release(self) -> None:
        """Stop the camera, so that other programs can use it."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
