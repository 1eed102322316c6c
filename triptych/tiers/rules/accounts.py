"""Who is calling: keys, roles, memberships, and what they entitle to.

A key is shown once; only its SHA-256 is stored (keys carry 256 random bits, so a slow hash would
add nothing). Looking a key up goes through memory; a change anywhere reaches every worker with
the next poll, and an expired key is refused without one.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from triptych.errors import Forbidden, Unauthenticated

Role = Literal["user", "company_admin", "admin"]
Kind = Literal["service", "user", "anonymous"]
KeyScope = Literal["generate", "feedback", "flags", "read", "manage", "content"]
"""What a key may be limited to: ask for answers, give feedback, evaluate flags, look, change. Only
`content` adds something: kept texts are shown to no key without it."""
KEY_PREFIX = "tri_"
SESSION_PREFIX = "ses_"
"""What the id of a key begins with that signing in made."""


@dataclass(frozen=True, slots=True)
class Company:
    """What the hot path needs to know of a company."""

    company_id: str
    allow_external: bool = False
    mask_external: bool = False
    """Whether personal data is masked before its content goes to an external provider."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """The facts its tier may use: name, industry ..."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a single key may use; None and empty: as much as its kind may."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    models: frozenset[str] = frozenset()
    """Tiers and models it may ask for."""


NO_LIMITS = KeyLimits()


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller."""

    key_id: str
    kind: Kind
    role: Role
    user_id: str | None
    companies: Mapping[str, Company]
    scopes: frozenset[str] = frozenset()
    """Empty, or `content` alone: everything its role may."""
    expires_at: float = float("inf")
    """Unix seconds."""
    people: Container[str] = frozenset()
    """The users this key may speak for besides its own; see `acting`."""
    bound_to: str | None = None
    """The company that the key was made in; None: for all that its user or role reaches."""
    limits: KeyLimits = NO_LIMITS

    @property
    def signed_in(self) -> bool:
        """Whether signing in made the key."""
        return self.key_id.startswith(SESSION_PREFIX)

    @property
    def anonymous(self) -> bool:
        """Whether the caller showed no key."""
        return self.kind == "anonymous"

    def member_of(self, company_id: str | None) -> bool:
        """Return whether a company's tier and data are this caller's to use."""
        return company_id is not None and company_id in self.companies

    def external_allowed(self, company_id: str | None) -> bool:
        """Return whether a company's content may be sent to an external provider."""
        company = self.companies.get(company_id) if company_id else None
        return company is not None and company.allow_external

    def masked(self, company_id: str | None) -> bool:
        """Return whether personal data of a company is masked before an external provider."""
        company = self.companies.get(company_id) if company_id else None
        return company is not None and company.mask_external

    def require(self, role: Role) -> None:
        """Refuse a caller of a lesser role.

        Raises: Forbidden.
        """
        order: tuple[Role, ...] = ("user", "company_admin", "admin")
        if self.anonymous or order.index(self.role) < order.index(role):
            raise Forbidden(f"this needs the role {role}")

    def limited_to(self, scope: KeyScope) -> None:
        """Refuse a key that was made for something else.

        Raises: Forbidden.
        """
        if self.scopes and scope not in self.scopes and self.scopes != {"content"}:
            raise Forbidden(
                f"this key is for {', '.join(sorted(self.scopes))} only, not for {scope}",
                code="scope_missing",
            )

    def may_ask(self, model: str) -> bool:
        """Return whether the key's list of models, where it has one, holds this one."""
        return not self.limits.models or model in self.limits.models

    def require_model(self, model: str) -> None:
        """Refuse a model that is not in the key's list.

        Raises: Forbidden.
        """
        if not self.may_ask(model):
            raise Forbidden(
                f"this key may not ask for {model[:64]!r}",
                hint=f"it may ask for {', '.join(sorted(self.limits.models))[:300]}",
                code="model_not_allowed",
            )

    def default_company(self) -> str | None:
        """Return the only company of a user who has exactly one."""
        return next(iter(self.companies)) if len(self.companies) == 1 else None


ANONYMOUS = Principal("anonymous", "anonymous", "user", None, {})


def new_key() -> str:
    """Make a key, to be shown once."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """Hash a key for looking it up."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """Remember the principals of known keys; the store fills it, a change empties it."""

    def __init__(self, *, anonymous_allowed: bool = False) -> None:
        self._known: dict[str, Principal] = {}
        self._anonymous_allowed = anonymous_allowed

    def replace(self, principals: Mapping[str, Principal]) -> None:
        """Take the principals of all valid keys, by digest."""
        self._known = dict(principals)

    def update(self, principals: Mapping[str, Principal], gone: Iterable[str]) -> None:
        """Take the principals of some keys, by digest; `gone` are keys that no longer count."""
        for key in gone:
            self._known.pop(key, None)
        self._known.update(principals)

    def authenticate(self, authorization: str) -> Principal:
        """Turn an Authorization header into a principal.

        Raises: Unauthenticated.
        """
        if not authorization:
            if self._anonymous_allowed:
                return ANONYMOUS
            raise Unauthenticated(
                "no key was sent", hint="Authorization: Bearer tri_...", code="missing_api_key"
            )
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() == "bearer" and key:
            principal = self._known.get(digest(key.strip()))
            if principal is not None and principal.expires_at > time.time():
                return principal
        raise Unauthenticated("the key is unknown, expired or revoked")
