"""Files that survive a crash: atomic files and folders, append-only logs, locks.

What is fsynced when: `write_atomic` and `atomic_folder` sync the content, rename, then sync
the parent folder, so after they return the new version survives power loss and before that
the old one stands untouched. `AppendLog` flushes every line to the operating system (it
survives a killed process) and syncs to disk only when asked. Left out: databases, which keep
their own promises.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self

from triptych.errors import StorageError

# The umask can only be read by setting it, so it is read once, before there are threads.
_UMASK = os.umask(0)
os.umask(_UMASK)

#: The disk is full, the user's quota is full, the file is larger than allowed.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Closing(ABC):
    """Something with a `close` method, closed at the end of a `with` block."""

    @abstractmethod
    def close(self) -> None:
        """Release what is held; the object is not used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_atomic(path: Path, data: bytes | str, *, private: bool = False) -> None:
    """Replace a file whole: a reader sees the old bytes or the new ones, never a mixture.

    With `private`, only its owner can read it, from the first byte on.

    Raises: StorageError when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    payload = data.encode() if isinstance(data, str) else data
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            if not private:
                os.fchmod(handle, 0o666 & ~_UMASK)
            with os.fdopen(handle, "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` by one rename when the block succeeds.

    A failing block leaves nothing behind. An existing `path` is an error: folders are
    written once.
    """
    path = Path(path)
    if path.exists():
        raise StorageError(f"{path} already exists", hint="choose another name or delete it first")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.tmp-"))
        try:
            temporary.chmod(0o777 & ~_UMASK)
            yield temporary
            for file in sorted(temporary.rglob("*")):
                if file.is_file():
                    _sync_file(file)
            for folder in [*(f for f in temporary.rglob("*") if f.is_dir()), temporary]:
                _sync_folder(folder)
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(path.parent)


class AppendLog(Closing):
    """Append JSON lines to a file that other processes may read while it grows.

    Opening cuts off a last line that a crash left unfinished, so every line is whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _cut_torn_line(self.path)
            self._file: IO[bytes] = self.path.open("ab", buffering=0)

    def append(self, record: dict[str, Any], *, sync: bool = False) -> None:
        """Write one line with one system call; with `sync`, wait until the disk has it."""
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with storage_errors(self.path):
            self._file.write(line)
            if sync:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines of a log; a last line that is not finished yet is left for later."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)


class FolderLock:
    """Hold a folder for one live process; the kernel lets go when that process dies.

    Raises: StorageError naming the holder when another live process has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._handle: int | None = None

    def acquire(self) -> FolderLock:
        """Take the lock or say who has it."""
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise StorageError(
                f"{self.path.parent} is in use by process {holder}",
                hint="wait for it, stop it, or choose another folder",
                code="in_use",
            ) from error
        self._hold(handle)
        return self

    def wait(self) -> FolderLock:
        """Take the lock as soon as its holder lets go; for work that takes an instant."""
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX)
        self._hold(handle)
        return self

    def _hold(self, handle: int) -> None:
        self._handle = handle
        with suppress(OSError):  # the name is for people; a full disk cannot take the lock away
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())

    def release(self) -> None:
        """Let go; safe to call twice."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> FolderLock:
        return self if self._handle is not None else self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def require_free_space(path: Path, needed_bytes: int) -> None:
    """Refuse to start a write that the disk cannot hold.

    Raises: StorageError with what is free and what is needed.
    """
    folder = Path(path)
    while not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise StorageError(
            f"{folder} has {free_bytes / 1e9:.2f} GB free; {needed_bytes / 1e9:.2f} GB are needed",
            hint="free some space or point TRIPTYCH_HOME at a larger disk",
            code="disk_full",
        )


def sha256_file(path: Path) -> str:
    """Hash a file without loading it."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cut_torn_line(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("r+b") as file:
        position = file.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            block = file.read(position - start)
            newline = block.rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            position = start
        file.truncate(0)


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_sync_folder = _sync_file


def is_disk_full(error: BaseException) -> bool:
    """Return whether the system refused a write because the disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in _FULL


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Translate the system's errors about a file to StorageError; other errors pass.

    Raises: StorageError for a full disk, a name that is taken, a missing permission.
    """
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StorageError(
                f"no space left while writing {path}",
                hint="free some space or point TRIPTYCH_HOME at a larger disk",
                code="disk_full",
            ) from error
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise StorageError(
                f"{path} already exists", hint="choose another name or delete it first"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(
                f"no permission to write {path}",
                hint="choose a folder you own, or change its permissions",
                code="no_permission",
            ) from error
        raise
