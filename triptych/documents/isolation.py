"""A child process for each file, so that no file can stop, fill or crash what reads it.

A `DocumentReader` keeps one server process that has the parsers loaded and forks for each file:
the fork costs milliseconds, and a fork that exceeds its limits is killed alone. Requests and
answers are lines of JSON over pipes. Left out: the parsing (parse.py).
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from triptych.documents.blocks import Document, Limits, Unread
from triptych.documents.kinds import kind_of
from triptych.durable import Closing

_GRACE_S = 10.0
_CRASHED = "the program that reads it ended unexpectedly"


class DocumentReader(Closing):
    """Read files one after the other, each in a process of its own. Safe to share by threads."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End the server process."""
        with self._lock:
            self._end()

    def read(self, path: Path, name: str | None = None) -> Document:
        """Return a file's blocks and what could not be read.

        `name` is what the file is called in the result (default: its file name).
        """
        path = Path(path).absolute()
        name = printable(name or path.name)
        with self._lock:
            answer = self._ask({"path": _encoded(path), "name": name})
        if answer is None:
            return _failed(path, name, "crashed", _CRASHED)
        if "document" in answer:
            return Document.from_json(answer["document"])
        return _failed(path, name, answer["code"], answer["reason"])

    def _ask(self, request: dict[str, str]) -> dict[str, Any] | None:
        server = self._started()
        assert server.stdin is not None and server.stdout is not None
        try:
            server.stdin.write(json.dumps(request).encode() + b"\n")
            server.stdin.flush()
            # The server ends a file that takes too long; this is for a server that hangs itself.
            ready, _, _ = select.select([server.stdout], [], [], self.limits.time_s + _GRACE_S)
            line = server.stdout.readline() if ready else b""
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            self._end()
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._server is None or self._server.poll() is not None:
            self._server = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "triptych.documents.server",
                    json.dumps(asdict(self.limits)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        return self._server

    def _end(self) -> None:
        if self._server is None:
            return
        for pipe in (self._server.stdin, self._server.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._server.kill()
        self._server.wait()
        self._server = None


def read_document(path: Path, *, limits: Limits | None = None) -> Document:
    """Return one file's blocks and what could not be read; for many files use `DocumentReader`."""
    with DocumentReader(limits) as reader:
        return reader.read(path)


def printable(name: str) -> str:
    """Return a file name that any encoding can hold: bytes that are no UTF-8 become `?`."""
    return name.encode("utf-8", "replace").decode()


def _encoded(path: Path) -> str:
    """Return a path as JSON can hold it; bytes of a name that are no UTF-8 stay as they are."""
    return str(path).encode("utf-8", "surrogateescape").hex()


def _failed(path: Path, name: str, code: str, reason: str) -> Document:
    try:
        size_bytes = path.stat().st_size
    except OSError:
        size_bytes = 0
    unread = (Unread(name, code, reason),)
    return Document(name, path.stem, kind_of(path), "", size_bytes, "", (), unread)
