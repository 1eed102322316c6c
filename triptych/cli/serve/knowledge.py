"""The sources of knowledge of the gateway's tiers, made in each of its worker processes."""

from __future__ import annotations

from triptych.config import environment
from triptych.learning.company.library import CompanyKnowledge
from triptych.wire.evidence import KnowledgeSource

#: How `triptych gateway serve` names `sources` to its workers.
NAME = f"{__name__}:sources"


def sources() -> dict[str, KnowledgeSource]:
    """Return tier -> source; a company without documents is answered as without a source."""
    return {"company": CompanyKnowledge(environment.home() / "companies")}
