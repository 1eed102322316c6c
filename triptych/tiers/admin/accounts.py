"""Routes over keys, companies, users and memberships."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import Field

from triptych.errors import Forbidden, NotFound
from triptych.tiers.admin.routing import Body, RouteCall, Routes
from triptych.tiers.rules.accounts import KeyScope
from triptych.tiers.rules.acting import whole_person
from triptych.tiers.rules.consent import DEFAULTS, Purpose
from triptych.tiers.store import accounts as store
from triptych.tiers.store import memberships
from triptych.tiers.store.database import across
from triptych.tiers.store.personal_data import consents

routes = Routes()
Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")]
_LONGEST_DAYS = 3650


class Limits(Body):
    """What a key may use in a minute, and the tiers and models it may ask for."""

    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    tokens_per_minute: int | None = Field(default=None, ge=1, le=1_000_000_000)
    models: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(
        default_factory=list, max_length=200
    )

    def given(self) -> dict[str, Any]:
        """Return what is limited."""
        return {name: value for name, value in self.model_dump().items() if value}


class NewKey(Body):
    """A key for an application or a user."""

    name: str = Field(min_length=1, max_length=128)
    kind: Literal["service", "user"] = "service"
    role: Literal["user", "company_admin", "admin"] = "user"
    user_id: Id | None = None
    company_id: Id | None = None
    scopes: list[KeyScope] = Field(default_factory=list, max_length=16)
    limits: Limits = Field(default_factory=Limits)
    expires_in_days: float | None = Field(default=None, gt=0, le=_LONGEST_DAYS)


class NewCompany(Body):
    """A company and the facts its tier may use."""

    company_id: Id
    name: str = Field(min_length=1, max_length=200)
    industry: str | None = Field(default=None, max_length=200)
    facts: dict[Annotated[str, Field(max_length=64)], Any] = Field(
        default_factory=dict, max_length=50
    )
    allow_external: bool = False
    mask_external: bool = False


class CompanyChange(Body):
    """What may change about a company."""

    name: str | None = Field(default=None, min_length=1, max_length=200)
    industry: str | None = Field(default=None, max_length=200)
    facts: dict[Annotated[str, Field(max_length=64)], Any] | None = Field(
        default=None, max_length=50
    )
    allow_external: bool | None = None
    mask_external: bool | None = None


class NewUser(Body):
    """A user and the companies it belongs to."""

    user_id: Id
    role: Literal["user", "company_admin", "admin"] = "user"
    companies: list[Id] = Field(default_factory=list, max_length=100)


class NewConsent(Body):
    """A company's or the caller's own word on a purpose."""

    purpose: Purpose
    granted: bool
    company_id: Id | None = None


class ContentRight(Body):
    """Whether a key may read kept texts."""

    allowed: bool


@routes.add("PUT", "/api/consent", "user", body=NewConsent)
async def set_consent(call: RouteCall) -> Any:
    """Allow a purpose or no longer allow it: for oneself, or as its admin for a company."""
    body: NewConsent = call.body
    if body.company_id is not None:
        call.principal.require("company_admin")
        company_id, user_id = call.scope(body.company_id).company_id, None
    else:
        company_id, user_id = None, whole_person(call.principal)
    consent_id = await consents.set_consent(
        call.runtime.database,
        body.purpose,
        body.granted,
        company_id=company_id,
        user_id=user_id,
        actor=call.actor,
    )
    await call.runtime.refresh()
    return {"consent_id": consent_id, "purpose": body.purpose, "granted": body.granted}


@routes.add("GET", "/api/consent", "user", query=("company_id",))
async def consent_history(call: RouteCall) -> Any:
    """Show the history of one's own consent, or of a company's to its admin."""
    if "company_id" in call.query:
        call.principal.require("company_admin")
        rows = await consents.history(call.runtime.database, call.scope())
    elif call.principal.user_id is None or call.principal.bound_to:
        rows = []
    else:
        everybody = across("a user looks at its own consent")
        rows = await consents.history(call.runtime.database, everybody, call.principal.user_id)
    return {"defaults": dict(DEFAULTS), "history": rows}


@routes.add("GET", "/api/keys", "company_admin", query=("company_id",))
async def list_keys(call: RouteCall) -> Any:
    """List keys; the keys themselves are never shown again."""
    return {"keys": await store.list_keys(call.runtime.database, call.scope())}


@routes.add("POST", "/api/keys", "company_admin", body=NewKey)
async def create_key(call: RouteCall) -> Any:
    """Make a key; it is in this answer and nowhere else."""
    body: NewKey = call.body
    company_id = body.company_id
    if call.principal.role != "admin":
        if body.role == "admin":
            raise Forbidden("only an admin makes admin keys", code="scope_escalation")
        if "content" in body.scopes and "content" not in call.principal.scopes:
            raise Forbidden("only who may read content lets others", code="scope_escalation")
        company_id = call.scope(company_id).company_id
    expires_at = None
    if body.expires_in_days is not None:
        expires_at = time.time() + body.expires_in_days * 86_400
    key = await store.create_key(
        call.runtime.database,
        name=body.name,
        kind=body.kind,
        role=body.role,
        user_id=body.user_id,
        company_id=company_id,
        scopes=body.scopes,
        limits=body.limits.given(),
        expires_at=expires_at,
        actor=call.actor,
    )
    await call.runtime.refresh()
    return {"key": key, "note": "shown once"}


@routes.add("DELETE", "/api/keys/{key_id}", "company_admin", query=("company_id",))
async def revoke_key(call: RouteCall) -> Any:
    """Revoke a key; every worker refuses it within a second."""
    await store.revoke_key(
        call.runtime.database,
        call.path["key_id"][:64],
        actor=call.actor,
        scope=call.scope(reason="an admin revokes a key"),
    )
    await call.runtime.refresh()
    return {"key_id": call.path["key_id"]}


@routes.add("PUT", "/api/keys/{key_id}/limits", "company_admin", body=Limits)
async def limit_key(call: RouteCall) -> Any:
    """Limit a key by requests and tokens a minute and by models; an empty body lifts the limits."""
    key_id, limits = call.path["key_id"][:64], call.body.given()
    scope = call.scope(reason="an admin limits a key")
    await store.limit_key(call.runtime.database, key_id, limits, actor=call.actor, scope=scope)
    await call.runtime.refresh()
    return {"key_id": key_id, "limits": limits}


@routes.add("PUT", "/admin/keys/{key_id}/content", "admin", body=ContentRight)
async def allow_content(call: RouteCall) -> Any:
    """Let a key read what was written, or no longer; the change is in the audit."""
    key_id = call.path["key_id"][:64]
    scopes = await store.allow_content(
        call.runtime.database, key_id, call.body.allowed, actor=call.actor
    )
    await call.runtime.refresh()
    return {"key_id": key_id, "scopes": scopes}


@routes.add("GET", "/api/companies", "company_admin", query=("company_id",))
async def list_companies(call: RouteCall) -> Any:
    """List companies: all for an admin, else one's own."""
    return {"companies": await store.list_companies(call.runtime.database, call.scope())}


@routes.add("POST", "/admin/companies", "admin", body=NewCompany)
async def create_company(call: RouteCall) -> Any:
    """Enter a company."""
    body: NewCompany = call.body
    await store.create_company(
        call.runtime.database,
        body.company_id,
        body.name,
        industry=body.industry,
        facts=body.facts,
        allow_external=body.allow_external,
        mask_external=body.mask_external,
        actor=call.actor,
    )
    await call.runtime.refresh()
    return {"company_id": body.company_id}


@routes.add("PATCH", "/api/companies/{company_id}", "company_admin", body=CompanyChange)
async def change_company(call: RouteCall) -> Any:
    """Change a company's name, facts, or whether its content may leave."""
    company_id = call.path["company_id"][:64]
    values = call.body.model_dump(exclude_none=True)
    await store.change_company(
        call.runtime.database, company_id, values, call.scope(company_id), actor=call.actor
    )
    await call.runtime.refresh()
    return {"company_id": company_id}


@routes.add("GET", "/admin/users", "admin")
async def list_users(call: RouteCall) -> Any:
    """List users with the companies they belong to."""
    return {"users": await store.list_users(call.runtime.database)}


@routes.add("POST", "/admin/users", "admin", body=NewUser)
async def create_user(call: RouteCall) -> Any:
    """Enter a user."""
    body: NewUser = call.body
    await store.create_user(
        call.runtime.database,
        body.user_id,
        role=body.role,
        companies=body.companies,
        actor=call.actor,
    )
    await call.runtime.refresh()
    return {"user_id": body.user_id}


@routes.add("GET", "/api/companies/{company_id}/members", "company_admin")
async def list_members(call: RouteCall) -> Any:
    """List the members of a company; an admin of the gateway also sees open invitations."""
    company_id = call.path["company_id"][:64]
    rows = await memberships.members(
        call.runtime.database, call.scope(company_id), company_id,
        with_invited=call.principal.role == "admin",
    )  # fmt: skip
    return {"members": rows}


@routes.add("PUT", "/api/companies/{company_id}/members/{user_id}", "company_admin")
async def add_member(call: RouteCall) -> Any:
    """Invite a user into a company; an admin of the gateway makes it a member at once."""
    company_id, user_id = call.path["company_id"][:64], call.path["user_id"][:64]
    if call.principal.role == "admin":
        return await _membership(call, member=True)
    member = await memberships.invite(
        call.runtime.database,
        user_id,
        company_id,
        scope=call.scope(company_id),
        actor=call.actor,
    )
    await call.runtime.refresh()
    return {
        "company_id": company_id, "user_id": user_id, "member": member, "invited": not member,
    }  # fmt: skip


@routes.add("GET", "/api/memberships", "user")
async def list_memberships(call: RouteCall) -> Any:
    """List one's own companies, and the invitations that wait for an answer."""
    if call.principal.user_id is None:
        return {"memberships": []}
    user_id = whole_person(call.principal)
    return {"memberships": await memberships.memberships_of(call.runtime.database, user_id)}


@routes.add("PUT", "/api/memberships/{company_id}", "user")
async def accept_invitation(call: RouteCall) -> Any:
    """Become a member of a company that invited one."""
    user_id, company_id = _invited(call)
    await memberships.agree(call.runtime.database, user_id, company_id, actor=call.actor)
    await call.runtime.refresh()
    return {"company_id": company_id, "user_id": user_id, "member": True}


def _invited(call: RouteCall) -> tuple[str, str]:
    company_id = call.path["company_id"][:64]
    if call.principal.user_id is None:
        raise NotFound(f"this key belongs to no user, and {company_id!r} invited none")
    return whole_person(call.principal), company_id


@routes.add("DELETE", "/api/memberships/{company_id}", "user")
async def leave_company(call: RouteCall) -> Any:
    """Leave a company, or refuse its invitation."""
    user_id, company_id = _invited(call)
    await memberships.leave(call.runtime.database, user_id, company_id, actor=call.actor)
    await call.runtime.refresh()
    return {"company_id": company_id, "user_id": user_id, "member": False}


@routes.add("DELETE", "/api/companies/{company_id}/members/{user_id}", "company_admin")
async def remove_member(call: RouteCall) -> Any:
    """End a user's membership of a company."""
    return await _membership(call, member=False)


async def _membership(call: RouteCall, *, member: bool) -> Any:
    company_id, user_id = call.path["company_id"][:64], call.path["user_id"][:64]
    await memberships.set_membership(
        call.runtime.database,
        user_id,
        company_id,
        member=member,
        scope=call.scope(company_id),
        actor=call.actor,
    )
    await call.runtime.refresh()
    return {"company_id": company_id, "user_id": user_id, "member": member}
