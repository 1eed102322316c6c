"""Keep native libraries from changing the process they run in: its signal handlers, its memory.

llama.cpp's server installs its own handlers for SIGINT and SIGTERM while it starts, which would
undo the draining shutdown of the process that embeds it. Python can only set handlers from the main
thread, and models load in others; so the system call is used directly.

glibc gives every few threads a heap of their own and never returns what lies between. Threads that
wait for llama.cpp allocate little and seldom, so one heap serves them all. Left out: other C
libraries, which have no such setting and need none.
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


# Numbers of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _HEAPS_MAX = -1, -3, -8
_LARGE_BYTES = 64 * 2**10


def share_one_heap() -> None:
    """Let all threads share one heap, and give large pieces back as they are freed.

    Source: measured: serving `small` needs 30 MB less (docs/log.md).
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    set_option(_HEAPS_MAX, 1)
    set_option(_MMAP_THRESHOLD, _LARGE_BYTES)
    set_option(_TRIM_THRESHOLD, _LARGE_BYTES)
