"""Companies, users and keys as a visitor may pick from them, the same on every page."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from triptych.panels.gateway_client import GatewayClient, segment
from triptych.panels.web.site import Visit

Choice = tuple[str, str]
ANY: Choice = ("", "Any")


@dataclass(frozen=True)
class Accounts:
    """What a visitor sees: all of it as an admin, else that of the visitor's own companies.

    `providers` are those with an address; None: not known to this visitor.
    """

    role: str
    companies: Mapping[str, str]
    users: Sequence[str] = ()
    keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    providers: Collection[str] | None = None

    @property
    def is_admin(self) -> bool:
        """Return whether the visitor administers the whole service."""
        return self.role == "admin"

    def company(self, company_id: str | None) -> str:
        """Return a company's name."""
        return self.companies.get(company_id or "", company_id or "")

    def key(self, key_id: str | None) -> str:
        """Return a key's name."""
        row = self.keys.get(key_id or "")
        return str(row["name"]) if row else key_id or ""

    def scope(self, company_id: str | None = None) -> dict[str, str]:
        """Return the company that a list is limited to: a company's admin always names one."""
        if company_id or self.is_admin:
            return {"company_id": company_id} if company_id else {}
        return {"company_id": next(iter(self.companies), "")}

    def scopes(self) -> list[dict[str, str]]:
        """Return the scopes that reach everything the visitor sees: all at once for an admin."""
        return [{}] if self.is_admin else [{"company_id": one} for one in self.companies]

    def choices_of_companies(self, first: Choice | None = None) -> list[Choice]:
        """Return the pick list of companies."""
        return [*([first] if first else []), *self.companies.items()]

    def choices_of_users(self, first: Choice | None = None) -> list[Choice]:
        """Return the pick list of users."""
        return [*([first] if first else []), *((name, name) for name in self.users)]

    def choices_of_keys(self, first: Choice | None = None) -> list[Choice]:
        """Return the pick list of keys that are not revoked."""
        valid = ((key, str(row["name"])) for key, row in self.keys.items() if not row["revoked_at"])
        return [*([first] if first else []), *valid]


async def read_accounts(visit: Visit) -> Accounts:
    """Return what the visitor may pick from."""
    gateway = visit.gateway
    role = visit.session.role if visit.session else ""
    if role == "admin":
        found, kept, users, addresses = await asyncio.gather(
            gateway.ask("GET", "/api/companies"), gateway.ask("GET", "/api/keys"),
            gateway.ask("GET", "/admin/users"), gateway.ask("GET", "/admin/upstreams"),
        )  # fmt: skip
        return Accounts(
            role, _names(found["companies"]), sorted(row["user_id"] for row in users["users"]),
            {row["key_id"]: row for row in kept["keys"]},
            {row["provider"] for row in addresses["upstreams"]},
        )  # fmt: skip
    mine = (await gateway.me())["companies"]
    parts = await asyncio.gather(*(_one_company(gateway, company) for company in mine))
    accounts = Accounts(role, {})
    for companies, users, keys in parts:
        accounts = Accounts(
            role, {**accounts.companies, **companies}, sorted({*accounts.users, *users}),
            {**accounts.keys, **keys},
        )  # fmt: skip
    return accounts


async def _one_company(
    gateway: GatewayClient, company: str
) -> tuple[dict[str, str], list[str], dict[str, Mapping[str, Any]]]:
    found, kept, members = await asyncio.gather(
        gateway.ask("GET", "/api/companies", company_id=company),
        gateway.ask("GET", "/api/keys", company_id=company),
        gateway.ask("GET", f"/api/companies/{segment(company)}/members"),
    )
    return (
        _names(found["companies"]),
        [row["user_id"] for row in members["members"]],
        {row["key_id"]: row for row in kept["keys"]},
    )


def _names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {row["company_id"]: row["name"] for row in rows}
