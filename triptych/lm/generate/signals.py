"""Keep a native library from taking the process's signal handlers.

llama.cpp's server installs its own handlers for SIGINT and SIGTERM while it starts, which would
undo the draining shutdown of the process that embeds it. Python can only set handlers from the main
thread, and models load in others; so the system call is used directly.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Larger than `struct sigaction` of any system Python runs on.
_ACTION_BYTES = 512
_lock = threading.Lock()


@contextmanager
def kept_signal_handlers() -> Iterator[None]:
    """Restore the handlers of SIGINT and SIGTERM to what they were on entry."""
    if sys.platform == "win32":
        yield
        return
    libc = ctypes.CDLL(None)
    numbers = (int(signal.SIGINT), int(signal.SIGTERM))
    with _lock:
        saved = {number: ctypes.create_string_buffer(_ACTION_BYTES) for number in numbers}
        for number, action in saved.items():
            libc.sigaction(number, None, action)
        try:
            yield
        finally:
            for number, action in saved.items():
                libc.sigaction(number, action, None)
