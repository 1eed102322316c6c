"""The sources of knowledge of the gateway's tiers, made in each of its worker processes."""

from __future__ import annotations

from triptych.config import environment
from triptych.learning.abstraction.serving import open_source
from triptych.learning.company.library import CompanyKnowledge
from triptych.wire.evidence import KnowledgeSource

#: How `triptych gateway serve` names `sources` to its workers.
NAME = f"{__name__}:sources"


def sources() -> dict[str, KnowledgeSource]:
    """Return tier -> source.

    A company without documents, or one that contributes no patterns, is answered as without one.
    """
    home = environment.home()
    return {
        "company": CompanyKnowledge(home / "companies"),
        "abstraction": open_source(home / "abstraction"),
    }
