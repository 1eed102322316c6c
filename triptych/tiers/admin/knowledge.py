"""Routes over the documents that answers of the company tier cite."""

from __future__ import annotations

from typing import Any

from triptych.errors import NotFound
from triptych.tiers.admin.routing import RouteCall, Routes
from triptych.wire.evidence import DocumentSource

routes = Routes()


@routes.add(
    "GET", "/api/knowledge/documents/{document_id}", "user", query=("company_id", "start", "end")
)
async def document(call: RouteCall) -> Any:
    """Return the text of a document that an answer cites, with the words between two offsets."""
    company_id = call.query.get("company_id") or call.principal.default_company()
    if call.principal.member_of(company_id):
        source: object = call.runtime.sources.get("company")
        if isinstance(source, DocumentSource):
            found = await source.document(
                call.path["document_id"], company_id, call.principal.user_id
            )
            if found is not None:
                last = len(found.text)
                start = call.number("start", 0, 0, last)
                end = call.number("end", start, start, last)
                return {
                    "id": found.id,
                    "document": found.document,
                    "version": found.version,
                    "title": found.title,
                    "text": found.text,
                    "start": start,
                    "end": end,
                    "quote": found.text[start:end],
                }
    # The same answer for a stranger and for a document that is gone: neither learns which it was.
    raise NotFound("there is no such document, or you may not read it", code="document_not_found")
