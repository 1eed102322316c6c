"""The process that reads files for a `DocumentReader`: it forks for each, and ends what takes long.

Run as `python -m triptych.documents.server LIMITS`. Reads a request a line from standard input
and writes an answer a line to standard output; ends at the end of its input. It has one thread,
so that forking it is safe.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from triptych.documents.blocks import Limits
from triptych.documents.parse import parse

# Loaded once here, so that no fork loads them again.
_PRELOADED = ("texts", "html", "pdf", "office", "mail", "exports", "epub")


def main(limits: Limits) -> None:
    """Answer requests until the input ends."""
    for module in _PRELOADED:
        import_module(f"triptych.documents.{module}")
    for library in ("docx", "pptx", "python_calamine"):
        import_module(library)
    for line in sys.stdin.buffer:
        answer = read_in_fork(json.loads(line), limits)
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()


def read_in_fork(request: dict[str, str], limits: Limits) -> bytes:
    """Return the answer to one request as a line of JSON, without its line end."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(request, limits, writing)
    os.close(writing)
    try:
        answer = _received(reading, time.monotonic() + limits.time_s)
    finally:
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if answer is None:
        return _failure("timeout", f"reading it takes longer than {limits.time_s:g} s")
    if answer.endswith(b"\n"):
        return answer[:-1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return _failure("timeout", f"reading it takes longer than {limits.time_s:g} s")
    return _failure("crashed", "the program that reads it ended unexpectedly")


def _received(pipe: int, deadline: float) -> bytes | None:
    """Return what the fork wrote; None where it did not end in time."""
    pieces: list[bytes] = []
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        piece = os.read(pipe, 1 << 20)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def _child(request: dict[str, str], limits: Limits, pipe: int) -> None:
    """Read the file, write the answer, and end without running what the parent registered."""
    status = 1
    try:
        _limit(limits)
        # Libraries print warnings about a file; the reasons in the answer replace them.
        quiet = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(quiet, descriptor)
        path = Path(bytes.fromhex(request["path"]).decode("utf-8", "surrogateescape"))
        answer: dict[str, Any]
        try:
            answer = {"document": parse(path, request["name"], limits).as_json()}
        except OSError as error:
            answer = {"code": "unreadable", "reason": error.strerror or str(error)}
        with os.fdopen(pipe, "wb") as stream:
            stream.write(json.dumps(answer).encode("utf-8", "replace") + b"\n")
        status = 0
    finally:
        os._exit(status)


def _limit(limits: Limits) -> None:
    """Set the fork's own limits: memory beyond the parent's, processor seconds, no core file."""
    seconds = max(1, int(limits.time_s) + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform != "darwin":  # macOS has no working limit of address space
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))


def _failure(code: str, reason: str) -> bytes:
    return json.dumps({"code": code, "reason": reason}).encode()


if __name__ == "__main__":
    main(Limits(**json.loads(sys.argv[1])))
