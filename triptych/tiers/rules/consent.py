"""Who allowed what: three purposes, of which only serving is on from the start.

`serve` answers requests, `improve` keeps content to improve the company's (or the user's) own
model, `abstraction` lets a company's patterns into the shared tier. A company's content needs the
company's consent, and a user who refused is left out of it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Purpose = Literal["serve", "improve", "abstraction"]
PURPOSES: tuple[Purpose, ...] = ("serve", "improve", "abstraction")
DEFAULTS: Mapping[Purpose, bool] = {"serve": True, "improve": False, "abstraction": False}


class Subject(NamedTuple):
    """Whose consent it is: a company's or a user's."""

    company_id: str | None
    user_id: str | None
    purpose: str


class Consent(NamedTuple):
    """The newest word of a subject on a purpose."""

    granted: bool
    consent_id: int


Consents = Mapping[Subject, Consent]


def granted(
    consents: Consents, company_id: str | None, user_id: str | None, purpose: Purpose
) -> str:
    """Name the consents that allow a purpose, to be pinned to what is kept.

    Returns: an empty text when nothing allows it.
    """
    names = []
    if company_id is not None:
        own = consents.get(Subject(company_id, None, purpose))
        if own is None or not own.granted:
            return ""
        names.append(f"company:{own.consent_id}")
    if user_id is not None:
        own = consents.get(Subject(None, user_id, purpose))
        if own is None:
            # Silence is no consent for oneself, and no objection to one's company's.
            return f"{purpose}:{'+'.join(names)}" if names else ""
        if not own.granted:
            return ""
        names.append(f"user:{own.consent_id}")
    return f"{purpose}:{'+'.join(names)}" if names else ""


def refuses_service(consents: Consents, company_id: str | None, user_id: str | None) -> bool:
    """Return whether the company or the user does not want to be served any more."""
    words = (
        consents.get(Subject(company_id, None, "serve")) if company_id else None,
        consents.get(Subject(None, user_id, "serve")) if user_id else None,
    )
    return any(word is not None and not word.granted for word in words)
