"""Every company's knowledge on this machine: one folder a company, and none sees another's.

`Library` opens stores and holds them ready; `CompanyKnowledge` is the source that the gateway
gets for its company tier. A store that another process changes, forgets or replaces is seen on
the next question. Left out: HTTP and who is a member (the gateway).
"""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.durable import Closing
from triptych.errors import LearningError
from triptych.learning.company import corrections
from triptych.learning.company.answer import answer
from triptych.learning.company.checking import check
from triptych.learning.company.retrieval import Retriever
from triptych.learning.company.store import Store
from triptych.learning.company.tables import FILE
from triptych.learning.company.vectors import vectors_of
from triptych.wire.evidence import Checked, Evidence, SourceText

EVERYONE = "everyone"
_COMPANY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_OPEN = 64
# Each thread holds a connection to every open store; more threads than cores answer no faster.
_THREADS = 2
URL = "/api/knowledge/documents/{document}?company_id=%s&start={start}&end={end}"


@dataclass
class _Open:
    retriever: Retriever
    inode: int
    users: int = 0


class Library(Closing):
    """Open the stores of companies by id; safe to share by threads."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._lock = threading.Lock()

    def folder(self, company: str) -> Path:
        """Return a company's folder.

        Raises: LearningError for an id that is not valid.
        """
        if not _COMPANY.fullmatch(company) or company in (".", ".."):
            raise LearningError(
                f"company id {company!r} is not valid",
                hint="use letters, digits, `.`, `_`, `@` and `-`, at most 64",
            )
        return self.root / company

    def companies(self) -> list[str]:
        """Return the ids of the companies that have a store."""
        return sorted(path.parent.name for path in self.root.glob(f"*/{FILE}"))

    def create(self, company: str) -> Store:
        """Return a company's store, made where there was none."""
        return Store(self.folder(company), company)

    def store(self, company: str) -> Store:
        """Return a company's store.

        Raises: LearningError where there is none.
        """
        if not (self.folder(company) / FILE).exists():
            known = ", ".join(self.companies()) or "none yet"
            raise LearningError(
                f"there is no company {company!r} with documents; there are: {known}",
                hint=f"triptych company add {company} ./folder",
            )
        return Store(self.folder(company), company)

    def erase(self, company: str) -> bool:
        """Remove everything a company has here; return whether there was anything."""
        folder = self.folder(company)
        if not folder.exists():
            return False
        # Renamed first, so that no question finds half of it.
        going = folder.with_name(f".{folder.name}.erased")
        folder.rename(going)
        shutil.rmtree(going)
        return True

    @contextmanager
    def reading(self, company: str) -> Iterator[Retriever | None]:
        """Yield a company's retriever, held open for later; None where it has no store."""
        one = self._taken(company)
        try:
            yield None if one is None else one.retriever
        finally:
            if one is not None:
                with self._lock:
                    one.users -= 1

    def _taken(self, company: str) -> _Open | None:
        path = self.folder(company) / FILE
        with self._lock:
            try:
                inode = path.stat().st_ino
            except FileNotFoundError:
                self._drop(company)
                return None
            one = self._open.get(company)
            if one is not None and one.inode != inode:
                self._drop(company)
                one = None
            if one is None:
                store = Store(path.parent, company)
                one = _Open(Retriever(store, url=URL % company), path.stat().st_ino)
                self._open[company] = one
            self._open.move_to_end(company)
            one.users += 1
            idle = [name for name, held in self._open.items() if not held.users]
            for name in idle[: max(0, len(self._open) - _OPEN)]:
                self._drop(name)
            return one

    def _drop(self, company: str) -> None:
        one = self._open.pop(company, None)
        if one is not None and not one.users:
            one.retriever.store.close()

    def close(self) -> None:
        """Close every store."""
        with self._lock:
            for company in list(self._open):
                self._drop(company)


class CompanyKnowledge:
    """Answer a member's question from the documents that member may read."""

    def __init__(self, root: Path) -> None:
        self.library = Library(root)
        self._threads = ThreadPoolExecutor(_THREADS, "company-knowledge")
        self._threads.submit(self._warm)  # a model takes seconds to load

    def _warm(self) -> None:
        """Load the embedders of the companies that are here, before the first question."""
        for company in self.library.companies():
            with self.library.store(company) as store:
                vectors_of(store)

    async def find(
        self,
        question: str,
        history: Sequence[Mapping[str, Any]],
        company_id: str | None,
        user_id: str | None,
    ) -> Evidence | None:
        """Return the evidence; None for a company without documents here.

        The caller has checked that the user is a member of the company.
        """
        if company_id is None or not _COMPANY.fullmatch(company_id):
            return None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, self._find, question, list(history), company_id, user_id
        )

    def _find(
        self, question: str, history: Sequence[Mapping[str, Any]], company: str, user: str | None
    ) -> Evidence | None:
        with self.library.reading(company) as retriever:
            if retriever is None:
                return None
            return answer(retriever, question, retriever.store.groups_of(user), history)

    def check(self, text: str, evidence: Evidence) -> Checked:
        """Return the text if the cited passages hold it, else the extracted answer."""
        return check(text, evidence)

    async def document(
        self, document_id: str, company_id: str | None, user_id: str | None
    ) -> SourceText | None:
        """Return the text of a document version that the user may read."""
        if company_id is None or not document_id.isdecimal() or not _COMPANY.fullmatch(company_id):
            return None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, self._document, int(document_id[:18]), company_id, user_id
        )

    def _document(self, document: int, company: str, user: str | None) -> SourceText | None:
        with self.library.reading(company) as retriever:
            if retriever is None:
                return None
            store = retriever.store
            return store.readable(document, store.groups_of(user))

    async def correct(
        self, company_id: str, correction_id: str, question: str, answer: str, *,
        asker: str | None, at: float,
    ) -> bool:  # fmt: skip
        """Let a reviewer's answer be found from the next question on.

        Returns: False for a company without documents: one correction would refuse all else.
        """
        if not _COMPANY.fullmatch(company_id):
            return False
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, self._correct, company_id, correction_id, question, answer, asker, at
        )

    def _correct(
        self, company: str, correction: str, question: str, answer: str, asker: str | None,
        at: float,
    ) -> bool:  # fmt: skip
        with self.library.reading(company) as retriever:
            if retriever is None:
                return False
            corrections.put(retriever.store, correction, question, answer, asker=asker, at=at)
        return True

    async def erase(self, company_id: str | None, user_id: str | None) -> int:
        """Remove a company's documents, or a user's groups; return how many stores changed."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._erase, company_id, user_id)

    def _erase(self, company_id: str | None, user_id: str | None) -> int:
        if user_id is None:
            known = company_id is not None and _COMPANY.fullmatch(company_id)
            return int(bool(known) and self.library.erase(str(company_id)))
        return sum(self._forget_reader(one, user_id) for one in self.library.companies())

    def _forget_reader(self, company: str, user: str) -> bool:
        with self.library.reading(company) as retriever:
            if retriever is None:
                return False
            corrected = corrections.forget_asker(retriever.store, user)
            if retriever.store.groups_of(user) == {EVERYONE}:
                return bool(corrected)
            retriever.store.set_reader(user, [])
            retriever.store.purge()
        return True

    async def close(self) -> None:
        """Close every store."""
        self._threads.shutdown()
        self.library.close()
