"""Delete a document or a company for good, and say before what goes with it.

A deletion reaches the passages and their index, every kept version, the uploaded file, what an
interrupted sync left, the test questions that name the document, and the releases of patterns
that counted it. Left out: requests and keys, which are the gateway's.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from triptych.durable import FolderLock
from triptych.learning.abstraction.register import Register
from triptych.learning.abstraction.releases import Releases
from triptych.learning.abstraction.serving import erase
from triptych.learning.company.evaluate import Question, questions, save_questions
from triptych.learning.company.library import Library
from triptych.learning.company.store import Store
from triptych.learning.company.sync import LOCK, STAGING


@dataclass(frozen=True)
class Deletion:
    """What a deletion removes; `comes_back` says that the file lies in a folder that is synced."""

    documents: int
    passages: int
    questions: int
    releases: tuple[int, ...]
    comes_back: bool = False


def of_document(store: Store, source: str, name: str, patterns: Path) -> Deletion | None:
    """Return what the deletion of a document removes; None where there is no such document."""
    connection = store.connection()
    rows = connection.execute(
        "select d.id, (select count(*) from passages p where p.document = d.id) from documents d "
        "where d.source = ? and d.name = ?", (source, name),
    ).fetchall()  # fmt: skip
    if not rows:
        return None
    _, gone = _divided(questions(store), name)
    return Deletion(
        len(rows), sum(int(row[1]) for row in rows), len(gone), _releases(patterns, store.company),
        comes_back=_is_outside(store, source),
    )  # fmt: skip


def of_company(store: Store, patterns: Path) -> Deletion:
    """Return what the deletion of everything of a company removes."""
    documents, passages = store.counts()
    return Deletion(documents, passages, len(questions(store)), _releases(patterns, store.company))


def delete_document(store: Store, source: str, name: str, patterns: Path) -> Deletion | None:
    """Delete a document for good; None where there is no such document.

    Raises: StorageError while a sync runs.
    """
    with FolderLock(store.folder / LOCK):
        return _delete_document(store, source, name, patterns)


def _delete_document(store: Store, source: str, name: str, patterns: Path) -> Deletion | None:
    found = of_document(store, source, name, patterns)
    if found is None:
        return None
    location = Path(store.sources().get(source, ("", ()))[0])
    if location.is_relative_to(store.folder):
        # First: a crash after it leaves a document that the next sync takes out, none that returns.
        Path(location, name).unlink(missing_ok=True)
    store.forget(source, name)
    shutil.rmtree(store.folder / STAGING, ignore_errors=True)
    kept, gone = _divided(questions(store), name)
    if gone:
        save_questions(store, kept)
    erase(patterns, store.company, is_whole=False)
    return found


def delete_company(library: Library, company: str, patterns: Path) -> bool:
    """Delete everything of a company; return whether there was anything."""
    erase(patterns, company, is_whole=True)
    return library.erase(company)


def _divided(asked: list[Question], name: str) -> tuple[list[Question], list[Question]]:
    gone = [one for one in asked if name in one.document.split(" | ")]
    return [one for one in asked if one not in gone], gone


def _is_outside(store: Store, source: str) -> bool:
    """Return whether a source is a folder elsewhere; corrections, for one, have no folder."""
    location = Path(store.sources().get(source, ("", ()))[0])
    return location.is_absolute() and not location.is_relative_to(store.folder)


def _releases(patterns: Path, company: str) -> tuple[int, ...]:
    member = Register(patterns).members.get(company)
    return () if member is None else tuple(Releases(patterns).counting(member.id))
