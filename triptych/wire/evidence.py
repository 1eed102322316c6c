"""What a tier knows about a question: passages, an extracted answer, or the reason for a refusal.

The gateway asks a `KnowledgeSource` before it calls a provider, and lets it check what the provider
wrote. Company knowledge and patterns across companies are two such sources; both are handed in, so
the gateway imports neither. Left out: how passages are found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

RefusalReason = Literal["nothing_indexed", "nothing_allowed", "nothing_found"]


@dataclass(frozen=True)
class Passage:
    """A piece of one version of a document, with where it stands.

    `start` and `end` are character offsets into the text of that version; `page` counts from 1 and
    is None where the format has no pages. `url` opens the document at these words.
    """

    id: str
    document: str
    version: str
    title: str
    headings: tuple[str, ...]
    page: int | None
    start: int
    end: int
    text: str
    url: str = ""
    score: float = 0.0


@dataclass(frozen=True)
class Citation:
    """The words of a passage that a sentence of an answer rests on. `mark` counts from 1."""

    mark: int
    quote: str
    passage: Passage

    def as_json(self) -> dict[str, Any]:
        """Return the citation as it stands beside the choice of an answer."""
        return {"mark": self.mark, "quote": self.quote, **asdict(self.passage)}


@dataclass(frozen=True)
class Evidence:
    """What was found for a question.

    `answer` is made of the documents' own sentences with marks like `[1]`; it is shown where the
    words of a model do not hold. With `refused`, `answer` is the refusal in words and no provider
    is asked. `passages` are in order of rank; `confidence` is the probability that they hold the
    answer.
    """

    question: str
    answer: str
    citations: tuple[Citation, ...] = ()
    passages: tuple[Passage, ...] = ()
    refused: RefusalReason | None = None
    confidence: float = 0.0
    release: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def prompt(self) -> str:
        """Return the passages as numbered data for a prompt."""
        cited = [citation.passage for citation in self.citations] or list(self.passages)
        return "\n\n".join(
            f"[{number}] {' > '.join((passage.title, *passage.headings))}\n{passage.text}"
            for number, passage in enumerate(dict.fromkeys(cited), start=1)
        )


@dataclass(frozen=True)
class Checked:
    """An answer after the check: the text to show, its citations, and what was found wanting."""

    text: str
    citations: tuple[Citation, ...]
    is_model_text: bool
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceText:
    """One version of a document as text; the offsets of passages count in it."""

    id: str
    document: str
    version: str
    title: str
    text: str


class KnowledgeSource(Protocol):
    """Find evidence for a question, and check an answer against it."""

    async def find(
        self,
        question: str,
        history: Sequence[Mapping[str, Any]],
        company_id: str | None,
        user_id: str | None,
    ) -> Evidence | None:
        """Return the evidence; None where this source does not serve the company at all."""
        ...

    def check(self, text: str, evidence: Evidence) -> Checked:
        """Return the text if it says nothing that the cited passages do not hold.

        Otherwise the extracted answer of the evidence is returned, with the problems.
        """
        ...

    async def close(self) -> None:
        """Let go of files and connections."""
        ...


@runtime_checkable
class DocumentSource(Protocol):
    """Hold the documents that citations point into."""

    async def document(
        self, document_id: str, company_id: str | None, user_id: str | None
    ) -> SourceText | None:
        """Return a document's text; None where there is none that this user may read."""
        ...


@runtime_checkable
class ErasableSource(Protocol):
    """Hold data of companies or users outside the gateway's database."""

    async def erase(self, company_id: str | None, user_id: str | None) -> int:
        """Remove what is held of a company, or of a user; return how many things there were."""
        ...


@runtime_checkable
class CorrectableSource(Protocol):
    """Take corrected answers of reviewers, and answer like questions with them."""

    async def correct(
        self, company_id: str, correction_id: str, question: str, answer: str, *,
        asker: str | None, at: float,
    ) -> bool:  # fmt: skip
        """Keep a corrected answer; return False where the company has no documents here."""
        ...
