"""What holds for every test."""

import signal


def pytest_configure():
    """Ctrl-C works in the tests and the processes they start: a shell's background jobs inherit that it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
