"""A reviewer's corrected answers as documents of a company: found and cited like any passage.

Each is a document of the source `corrections`: the question is its heading, the answer its text.
Its name begins with a digest of the person who asked, so that erasing that person finds it. Left
out: who may correct (the gateway).
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from triptych.documents import Block, Document
from triptych.learning.company.store import Store

SOURCE = "corrections"
EVERYONE = "everyone"


def put(
    store: Store, correction: str, question: str, answer: str, *, asker: str | None, at: float
) -> None:
    """Let a corrected answer be found from the next question on; the same id replaces it.

    `at` is in Unix seconds.
    """
    question, answer = " ".join(question.split()), answer.strip()
    text = f"{question}\n{answer}"
    start = len(question) + 1
    day = datetime.fromtimestamp(at, UTC).date().isoformat()
    document = Document(
        name=f"{_digest(asker)}/{correction}",
        title=f"Correction by a reviewer, {day}",
        kind="correction",
        sha256=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(),
        size_bytes=len(text.encode("utf-8", "replace")),
        text=text,
        blocks=(
            Block("heading", (question,), None, question, 0, len(question)),
            Block("paragraph", (question,), None, answer, start, len(text)),
        ),
        unread=(),
    )
    if SOURCE not in store.sources():
        store.set_source(SOURCE, "corrections of reviewers", (EVERYONE,))
    store.apply(SOURCE, [document], [])


def forget_asker(store: Store, asker: str) -> int:
    """Remove every correction of answers to one person, with its bytes; return how many."""
    start = f"{_digest(asker)}/"
    names = [one.name for one in store.documents(SOURCE) if one.name.startswith(start)]
    return sum(store.forget(SOURCE, name) for name in names)


def _digest(asker: str | None) -> str:
    return hashlib.sha256((asker or "").encode("utf-8", "replace")).hexdigest()[:16]
