"""Waiting for something, and measuring again, on machines that are busy with other work."""

import time

LONG = 60  # seconds until something that does not happen is a failure


def wait_until(condition, seconds=LONG):
    """Return what `condition` returns once that is true; fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"still false after {seconds} s"
        time.sleep(0.01)
    return result


def measured_until(measure, holds, tries=4):
    """Measure again while `holds(measurement)` is false: another program can disturb any one measurement.

    Only for what is true of a quiet machine; each try must be long enough to be right there.
    """
    for _ in range(tries):
        measurement = measure()
        if holds(measurement):
            return measurement
    raise AssertionError(f"not true of {tries} measurements; the last was {measurement}")
