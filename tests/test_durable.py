"""Files survive crashes: every claim of `triptych.durable`, killed where it hurts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from triptych.durable import (
    AppendLog,
    FolderLock,
    atomic_folder,
    read_jsonl,
    require_free_space,
    sha256_file,
    write_atomic,
)
from triptych.errors import StorageError


def test_write_atomic_replaces_whole_and_leaves_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file.txt"
    write_atomic(target, "old")
    write_atomic(target, b"new")
    assert target.read_bytes() == b"new"
    assert [f.name for f in target.parent.iterdir()] == ["file.txt"]


def test_a_private_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    write_atomic(tmp_path / "token", "secret", private=True)
    assert (tmp_path / "token").stat().st_mode & 0o077 == 0


def test_a_failing_block_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError), atomic_folder(tmp_path / "made") as folder:
        (folder / "half").write_text("half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(StorageError, match="already exists"), atomic_folder(tmp_path / "made"):
        pass


def test_a_torn_last_line_is_ignored_by_readers_and_cut_by_writers(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with AppendLog(path) as log:
        log.append({"seq": 1})
    with path.open("ab") as file:
        file.write(b'{"seq": 2, "half')
    assert list(read_jsonl(path)) == [{"seq": 1}]
    with AppendLog(path) as log:
        log.append({"seq": 2})
    assert list(read_jsonl(path)) == [{"seq": 1}, {"seq": 2}]


@pytest.mark.parametrize("size", [10, 70_000, 140_000])
def test_a_torn_line_of_any_length_is_cut_at_the_right_place(tmp_path: Path, size: int) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a":1}\n' + b"x" * size)
    AppendLog(path).close()
    assert path.read_bytes() == b'{"a":1}\n'


def test_every_line_acknowledged_before_a_kill_is_there_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    code = (
        "import sys; from pathlib import Path; from triptych.durable import AppendLog\n"
        "log = AppendLog(Path(sys.argv[1])); n = 0\n"
        "while True:\n"
        "    log.append({'n': n, 'pad': 'x' * 500}); print(n, flush=True); n += 1\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    seen = [int(child.stdout.readline()) for _ in range(200)]
    os.kill(child.pid, signal.SIGKILL)
    # The kill may have cut the last line short; what stands before it was acknowledged.
    last = max([*seen, *map(int, child.communicate()[0].split("\n")[:-1])])
    written = [record["n"] for record in read_jsonl(path)]
    assert written == list(range(len(written)))
    assert len(written) > last


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "run.lock"
    code = (
        "import sys, time; from pathlib import Path; from triptych.durable import FolderLock\n"
        "lock = FolderLock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(StorageError, match=str(child.pid)):
        FolderLock(path).acquire()
    child.kill()
    child.wait()
    child.stdout.close()
    with FolderLock(path):
        pass


def test_a_full_disk_is_refused_with_figures(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="are needed") as caught:
        require_free_space(tmp_path / "not" / "yet", 10**18)
    assert caught.value.code == "disk_full"


def test_a_disk_that_fills_while_writing_is_a_clear_error_and_keeps_the_old_file() -> None:
    full = Path("/dev/full")
    if not full.exists():
        return
    with pytest.raises(StorageError, match="no space left"):
        AppendLog(full).append({"a": 1})


def test_hashing_a_file_equals_hashing_its_bytes(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "file"
    path.write_bytes(json.dumps(list(range(1000))).encode())
    assert sha256_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()
