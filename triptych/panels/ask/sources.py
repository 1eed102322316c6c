"""The sources of an answer: a cited passage, read in its document at the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from triptych.errors import NotFound
from triptych.panels.ask.history import Answer
from triptych.panels.gateway_client import GatewayClient

DOCUMENTS = "/api/knowledge/documents/"


@dataclass(frozen=True)
class ShownPassage:
    """A document around a cited passage, in three parts, and the version it was read from."""

    title: str
    headings: tuple[str, ...]
    page: int | None
    version: str
    before: str
    cited: str
    after: str


async def read_source(gateway: GatewayClient, answer: Answer, mark: str) -> ShownPassage:
    """Return the document of a citation with the cited passage apart.

    Raises: NotFound where the answer has no such mark, or the mark no document; TierError from the
    gateway, as for a document that was deleted.
    """
    for citation in answer.citations:
        address = urlsplit(str(citation.get("url") or ""))
        # Only this route: an address that came with an answer chooses no other.
        if str(citation.get("mark")) == mark and address.path.startswith(DOCUMENTS):
            found = await gateway.ask("GET", address.path, **dict(parse_qsl(address.query)))
            text, start, end = str(found["text"]), int(found["start"]), int(found["end"])
            return ShownPassage(
                str(found["title"]), tuple(citation.get("headings") or ()), citation.get("page"),
                str(found["version"]), text[:start], text[start:end], text[end:],
            )  # fmt: skip
    raise NotFound("this answer has no such source", hint="go back to the answer")
