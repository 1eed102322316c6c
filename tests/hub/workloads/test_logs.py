"""Logs that grow, are trimmed, and are followed by many."""

from __future__ import annotations

import asyncio
from pathlib import Path

from triptych.hub.server.workloads import logs
from triptych.hub.server.workloads.logs import LogBook
from triptych.processes.child import trim


def write(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


async def collect(book: LogBook, tail: int | None = None) -> list[str]:
    return [line.data async for line in book.follow(tail) if line is not None]


async def test_every_follower_gets_every_line_with_the_same_time(tmp_path: Path) -> None:
    book = LogBook(tmp_path / "log")
    book.poll()
    early = asyncio.create_task(collect(book))
    for number in range(3):
        write(book.path, f"line {number}\nhalf")
        await asyncio.sleep(0)
        book.poll()
        write(book.path, " whole\n")
    book.close()
    late = [line async for line in book.follow() if line is not None]
    assert await early == [line.data for line in late]
    assert len(late) == 6 and late[1].data == "half whole\n"
    again = [line async for line in book.follow() if line is not None]
    assert [line.timestamp for line in again] == [line.timestamp for line in late]
    assert sorted(line.timestamp for line in late) == [line.timestamp for line in late]
    assert late[0].timestamp.endswith("Z")


async def test_a_tail_starts_near_the_end(tmp_path: Path) -> None:
    book = LogBook(tmp_path / "log")
    write(book.path, "".join(f"{number}\n" for number in range(10)))
    book.close()
    assert await collect(book, 2) == ["8\n", "9\n"]
    assert await collect(book, 100) == await collect(book)
    assert await collect(book, 0) == []


async def test_an_unfinished_last_line_is_not_lost(tmp_path: Path) -> None:
    book = LogBook(tmp_path / "log")
    write(book.path, "whole\nunfinished")
    book.close()
    assert await collect(book) == ["whole\n", "unfinished\n"]


async def test_bytes_that_are_no_text_and_endless_lines_are_shown_somehow(tmp_path: Path) -> None:
    book = LogBook(tmp_path / "log")
    book.path.write_bytes(b"\xff\xfe ok\r\n" + b"x" * 100_000)
    book.close()
    lines = await collect(book)
    assert lines[0].endswith(" ok\n")
    assert all(len(line) <= logs.LINE_BYTES + 1 for line in lines)


async def test_memory_is_bounded_and_the_newest_lines_stay(tmp_path: Path) -> None:
    book = LogBook(tmp_path / "log")
    for block in range(20):
        write(book.path, "".join(f"{block} {'y' * 4000}\n" for _ in range(100)))
        book.poll()
    write(book.path, "z\n" * 600_000 + "end\n")
    book.close()
    lines = await collect(book)
    assert len(lines) <= logs.KEPT_LINES
    assert sum(map(len, lines)) <= logs.KEPT_BYTES
    assert lines[-1] == "end\n"


async def test_a_trimmed_file_goes_on_without_repeating_itself(tmp_path: Path) -> None:
    book = LogBook(tmp_path / "log")
    write(book.path, "".join(f"old {number}\n" for number in range(1000)))
    book.poll()
    trim(book.path, 2000)
    book.poll()
    write(book.path, "new\n")
    book.close()
    lines = await collect(book)
    assert len(lines) == 1001 and lines[-1] == "new\n"


async def test_a_follower_of_nothing_is_kept_alive(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(logs, "KEEP_ALIVE_S", 0.01)
    book = LogBook(tmp_path / "never-written")
    book.poll()
    async for line in book.follow():
        assert line is None
        break
