"""What the pages of knowledge show: companies, files, changes, and answers with their sources."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from triptych.learning.company.files import FileState, file_states
from triptych.learning.company.library import Library
from triptych.learning.company.retrieval import Ranked
from triptych.learning.company.store import Store
from triptych.learning.company.sync import Diff
from triptych.panels.console.knowledge.place import PATH
from triptych.panels.gateway_client import segment
from triptych.panels.web.tables import Row, Table
from triptych.wire.evidence import Evidence, Passage

MARKS = {"read": "good", "partly": "warn", "not read": "bad"}
_SHOWN = 200
_MARK = re.compile(r"\s*\[(\d+)\]")


@dataclass(frozen=True)
class Source:
    """Where documents come from: `kind` is `upload`, `folder`, or `corrections` of reviewers."""

    name: str
    location: str
    kind: str


@dataclass(frozen=True)
class Knowledge:
    """A company's documents as they are now."""

    documents: int
    passages: int
    version: int
    sources: tuple[Source, ...]
    files: Table
    unread: int
    more: int


@dataclass(frozen=True)
class Piece:
    """A part of an answer; with an `href` it is the mark of a citation."""

    text: str
    href: str = ""


@dataclass(frozen=True)
class Cited:
    """A citation: its mark, the words, and where they stand."""

    mark: int
    quote: str
    place: str
    href: str


@dataclass(frozen=True)
class Answered:
    """An answer with its citations, or a refusal with the nearest passages."""

    question: str
    pieces: tuple[Piece, ...]
    refused: bool
    confidence: str
    citations: tuple[Cited, ...]
    nearest: tuple[Cited, ...]
    ranks: Table


def companies(library: Library, names: Mapping[str, str]) -> Table:
    """Return the companies of a visitor, with or without documents."""
    kept = set(library.companies())
    return Table(
        "Companies",
        ("Company", "Documents", "Passages", "Not read whole", "Version"),
        tuple(_company(library, one, name, one in kept) for one, name in names.items()),
        empty="No company yet. Add one under People.",
        numbers=frozenset({1, 2, 3, 4}),
    )


def _company(library: Library, company: str, name: str, is_kept: bool) -> Row:
    href = f"{PATH}/{segment(company)}"
    if not is_kept:
        return Row((name, 0, 0, 0, ""), href=href)
    with library.store(company) as store:
        documents, passages = store.counts()
        unread = sum(bool(one.unread) for one in store.documents())
        return Row((name, documents, passages, unread, store.version), href=href)


def knowledge(store: Store, state: str = "") -> Knowledge:
    """Return a company's documents; with `state` only the files in it."""
    documents, passages = store.counts()
    found = file_states(store)
    chosen = [one for one in found if state in ("", one.state)]
    files = Table(
        "Files",
        ("File", "State", "Why", "Passages", "Since version"),
        tuple(_file(store.company, one) for one in chosen[:_SHOWN]),
        empty="No file yet." if not found else "No file in this state.",
        numbers=frozenset({3, 4}),
        stack=True,
    )
    sources = tuple(
        Source(name, location, _kind(store, location))
        for name, (location, _) in store.sources().items()
    )
    unread = sum(one.state != "read" for one in found)
    more = max(0, len(chosen) - _SHOWN)
    return Knowledge(documents, passages, store.version, sources, files, unread, more)


def _kind(store: Store, location: str) -> str:
    if Path(location).is_relative_to(store.folder):
        return "upload"
    return "folder" if Path(location).is_absolute() else "corrections"


def _file(company: str, one: FileState) -> Row:
    document = one.document
    href = f"{PATH}/{segment(company)}/documents/{document.id}"
    cells = (
        f"{document.source}/{document.name}", one.state, one.why, one.passages, document.version,
    )  # fmt: skip
    return Row(cells, href=href, mark=MARKS[one.state])


def changes(diff: Diff) -> list[tuple[str, Sequence[str], int]]:
    """Return the changes of a sync by kind: words, the first names, and how many more."""
    kinds = {"New": diff.new, "Changed": diff.changed, "Gone": diff.gone}
    return [
        (f"{words} ({len(names)})", names[:30], max(0, len(names) - 30))
        for words, names in kinds.items()
        if names
    ]


def answered(company: str, evidence: Evidence, ranked: Sequence[Ranked]) -> Answered:
    """Return an answer as it is shown, every citation a link to the words."""
    marks = {one.mark: one for one in evidence.citations}
    cited = tuple(
        Cited(one.mark, one.quote, place(one.passage), address(company, one.passage, one.quote))
        for one in evidence.citations
    )
    links = {one.mark: one.href for one in cited}
    pieces: list[Piece] = []
    last = 0
    for found in _MARK.finditer(evidence.answer):
        mark = int(found[1])
        if mark in marks:
            pieces += [
                Piece(evidence.answer[last : found.start()]), Piece(f"[{mark}]", links[mark]),
            ]  # fmt: skip
            last = found.end()
    pieces.append(Piece(evidence.answer[last:]))
    nearest = tuple(
        Cited(number, one.text[:160], place(one), address(company, one))
        for number, one in enumerate(evidence.passages[:3], 1)
    )
    return Answered(
        evidence.question, tuple(one for one in pieces if one.text), evidence.refused is not None,
        f"{evidence.confidence:.0%}", cited, nearest, ranks(company, ranked),
    )  # fmt: skip


def ranks(company: str, ranked: Sequence[Ranked]) -> Table:
    """Return the passages that were found, best first, with what their rank is made of."""
    return Table(
        "Passages by rank",
        ("Passage", "Words found", "Rare words", "Headings", "Neighbours"),
        tuple(
            Row((place(one.passage), f"{one.bm25:.1f}", f"{one.coverage:.0%}",
                 f"{one.heading:.0%}", f"{one.pairs:.0%}"), href=address(company, one.passage))
            for one in ranked[:5]
        ),
        numbers=frozenset({1, 2, 3, 4}),
    )  # fmt: skip


def place(passage: Passage) -> str:
    """Return where a passage stands, in words."""
    page = f", page {passage.page}" if passage.page else ""
    return f"{' › '.join((passage.title, *passage.headings))} ({passage.document}{page})"


def address(company: str, passage: Passage, quote: str = "") -> str:
    """Return the address that opens a document at a passage, or at words in it."""
    start, end = passage.start, passage.end
    offset = passage.text.find(quote) if quote else -1
    if offset >= 0:
        start, end = passage.start + offset, passage.start + offset + len(quote)
    document = passage.id.partition("-")[0]
    query = urlencode({"start": start, "end": end})
    return f"{PATH}/{segment(company)}/documents/{document}?{query}#words"
