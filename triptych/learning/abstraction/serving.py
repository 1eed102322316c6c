"""What others need of the tier: its source for a gateway, and erasure that reaches its releases.

Left out: answering (`source`) and making releases (`build`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from triptych.durable import FolderLock, write_atomic
from triptych.learning.abstraction import vocabulary as vocabularies
from triptych.learning.abstraction.build import LOCK, Home
from triptych.learning.abstraction.companies import Companies
from triptych.learning.abstraction.counting import Rules
from triptych.learning.abstraction.register import FILE, Register
from triptych.learning.abstraction.releases import Releases
from triptych.learning.abstraction.source import PatternSource

ACCESS = "access.json"
_KEPT = 1000


class FolderContributors:
    """The contributors of a folder; the register is read again when it changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        self._companies = Companies(self._folder / "companies")
        self._register: Register | None = None
        self._read_at = (0, 0)
        self._kept: dict[str, tuple[int, Mapping[str, str]]] = {}

    def votes(self, company_id: str) -> Mapping[str, str] | None:
        """Return a contributing company's own votes; None for any other company."""
        file = self._folder / FILE
        if not file.is_file():
            return None
        stat = file.stat()
        if self._register is None or self._read_at != (stat.st_mtime_ns, stat.st_ino):
            self._register = Register(self._folder)
            self._read_at = (stat.st_mtime_ns, stat.st_ino)
        member = self._register.members.get(company_id)
        if member is None:
            return None
        votes = self._votes(member.id)
        return {one: value for one, value in votes.items() if one not in member.struck}

    def _votes(self, company: str) -> Mapping[str, str]:
        """Return a company's values; a reading is large and parsed again only when it changed."""
        changed = self._companies.changed_at(company)
        known = self._kept.get(company)
        if known is None or known[0] != changed:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            known = (changed, self._companies.votes(company, "current"))
            self._kept[company] = known
        return known[1]


def erase(folder: Path, company: str, *, is_whole: bool) -> list[int]:
    """Take out what an erasure of a company's documents reaches: its patterns and their releases.

    With `is_whole` the company contributes no longer; else it waits until its documents are read
    again. Returns: the releases that were removed; none is served until the next build.
    """
    folder = Path(folder)
    if not (folder / FILE).is_file():
        return []
    with FolderLock(folder / LOCK):
        home = Home(folder, vocabularies.load(), Rules())
        if company not in home.register.members:
            return []
        return home.withdraw(company) if is_whole else home.erase_reading(company)


def open_source(folder: Path, vocabulary: Path = vocabularies.FILE) -> PatternSource:
    """Return the source over a folder of the abstraction tier, which may be empty yet."""
    return PatternSource(
        Releases(folder), vocabularies.load(vocabulary), FolderContributors(folder),
        is_open=lambda: is_open(folder),
    )  # fmt: skip


def is_open(folder: Path) -> bool:
    """Return whether companies that do not contribute are answered too."""
    file = Path(folder) / ACCESS
    return file.is_file() and bool(json.loads(file.read_text("utf-8"))["all_companies"])


def set_open(folder: Path, is_for_all: bool) -> None:
    """Answer every company, or contributing ones only, from the next question on."""
    write_atomic(Path(folder) / ACCESS, json.dumps({"format": 1, "all_companies": is_for_all}))
