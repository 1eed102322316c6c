"""Two companies and a key of every kind at one gateway, for tests of who may see what."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson

from triptych.tiers.store import accounts


class People:
    """A gateway with two companies and a key of every kind."""

    def __init__(self, gateway: Any) -> None:
        self.gateway = gateway
        self.keys: dict[str, str] = {"none": "", "bad": "tri_nobody"}

    async def settle(self) -> People:
        database = self.gateway.database
        for company in ("acme", "globex"):
            await accounts.create_company(database, company, company.title(), actor="t")
        for user, company in (("ann", "acme"), ("gus", "globex")):
            await accounts.create_user(database, user, companies=[company], actor="t")
        for name, kind, role, user, company, expires in (
            ("user", "user", "user", "ann", None, None),
            ("company_admin", "service", "company_admin", None, "acme", None),
            ("admin", "service", "admin", None, None, None),
            ("expired", "service", "admin", None, None, 1.0),
            ("revoked", "service", "admin", None, None, None),
            ("foreign", "user", "user", "gus", None, None),
            ("service", "service", "user", None, "acme", None),
        ):
            self.keys[name] = await accounts.create_key(
                database, name=name, kind=kind, role=role, user_id=user, company_id=company,
                expires_at=expires, actor="t",
            )  # fmt: skip
        rows = await accounts.list_keys(database)
        revoked = next(row["key_id"] for row in rows if row["name"] == "revoked")
        await accounts.revoke_key(database, revoked, actor="t")
        await self.gateway.runtime.refresh()
        return self

    async def call(
        self, who: str, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        sent = {k.replace("_", "-"): v for k, v in headers.items()}
        if who != "none":
            sent["authorization"] = f"Bearer {self.keys[who]}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.gateway.url + path, json=body, headers=sent) as response,
        ):
            raw = await response.read()
            return response.status, orjson.loads(raw) if raw[:1] in b"{[" and raw else raw
