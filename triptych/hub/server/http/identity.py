"""Routes about people: who am I, who is that, who belongs to an organisation."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from triptych.errors import EntryNotFound
from triptych.hub.server.http.call import Access, Call
from triptych.hub.server.http.routing import Router
from triptych.hub.server.storage.git.history import timestamp
from triptych.hub.server.storage.identity.accounts import find_account, members_of, organisations_of
from triptych.hub.server.threads import in_thread

routes = Router()


@routes.get("/api/whoami-v2", Access.SIGNED_IN)
async def whoami(call: Call) -> Response:
    """Describe the token's owner and the token."""
    return JSONResponse(await in_thread(_describe, call))


def _describe(call: Call) -> dict[str, Any]:
    who = call.who
    orgs = [
        {
            "type": "org",
            "id": str(org.id),
            "name": org.name,
            "fullname": org.fullname,
            "email": None,
            "isEnterprise": False,
            "roleInOrg": role,
            "avatarUrl": "",
        }
        for org, role in organisations_of(call.hub.database, who.account_id)
    ]
    return {
        "type": "user",
        "id": str(who.account_id),
        "name": who.name,
        "fullname": who.fullname,
        "email": who.email or None,
        "emailVerified": False,
        "canPay": False,
        "isPro": False,
        "isAdmin": who.is_admin,
        "avatarUrl": "",
        "orgs": orgs,
        "auth": {
            "type": "access_token",
            "accessToken": {"displayName": who.token_name, "role": who.scope},
        },
    }


@routes.get("/api/users/{user}/overview", Access.PUBLIC)
async def user_overview(call: Call) -> Response:
    """Describe a user."""
    return await _overview(call, call.params["user"], "user")


@routes.get("/api/organizations/{organization}/overview", Access.PUBLIC)
async def organization_overview(call: Call) -> Response:
    """Describe an organisation."""
    return await _overview(call, call.params["organization"], "org")


@routes.get("/api/organizations/{organization}/members", Access.SIGNED_IN)
async def organization_members(call: Call) -> Response:
    """List an organisation's members."""

    def look_up() -> list[dict[str, Any]]:
        org = find_account(call.hub.database, call.params["organization"])
        if org is None or org.kind != "org":
            raise EntryNotFound("There is no such organisation")
        return [
            {"user": user.name, "fullname": user.fullname, "type": "user", "role": role}
            for user, role in members_of(call.hub.database, org.id)
        ]

    return JSONResponse(await in_thread(look_up))


async def _overview(call: Call, name: str, kind: str) -> Response:
    account = await in_thread(find_account, call.hub.database, name)
    if account is None or account.kind != kind:
        raise EntryNotFound(f"There is no {kind} {name[:100]}")
    described = {
        "name": account.name,
        "user": account.name,
        "fullname": account.fullname,
        "type": account.kind,
        "avatarUrl": "",
        "createdAt": timestamp(account.created_at),
    }
    return JSONResponse(described)
