"""What was written in a request: shown to a key with the right to read it, every reading audited.

The right is given here by an admin to the key of this sign-in (`PUT /admin/keys/ID/content`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from triptych.errors import NotFound, TierError
from triptych.panels.console.accounts import read_accounts
from triptych.panels.gateway_client import GatewayClient, segment
from triptych.panels.web.site import Visit

_DENIED = "content_not_permitted"
_PLAIN = {
    _DENIED: "This sign-in may not read what people wrote yet.",
    "content_not_kept": "Nothing was kept of this request: its user or company has not consented.",
}


@dataclass(frozen=True)
class Kept:
    """The turns of a conversation as role and text, or why they are not shown."""

    turns: tuple[tuple[str, str], ...] = ()
    trouble: str = ""
    denied: bool = False
    shown: bool = True


#: Before a visitor asks for it, nothing is read.
UNREAD = Kept(shown=False)


async def find_request(visit: Visit, request_id: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a request with its attempts, and the company that its lists are limited to.

    Raises: TierError where it is in none of the visitor's companies.
    """
    path, missing = f"/api/requests/{segment(request_id)}", NotFound("there is no such request")
    for scope in (await read_accounts(visit)).scopes():
        try:
            return await visit.gateway.ask("GET", path, **scope), scope
        except TierError as error:
            if error.status != missing.status:
                raise
    raise missing


async def read_kept(visit: Visit, request_id: str) -> Kept:
    """Return what was written, or why it cannot be shown."""
    _, scope = await find_request(visit, request_id)
    path = f"/api/requests/{segment(request_id)}/content"
    try:
        kept = await visit.gateway.ask("GET", path, **scope)
    except TierError as error:
        return Kept(trouble=_PLAIN.get(error.code, error.message), denied=error.code == _DENIED)
    turns = [(str(one.get("role", "")), str(one.get("content"))) for one in kept["messages"]]
    return Kept((*turns, ("answer", str(kept["answer"]))))


async def allow_reading(gateway: GatewayClient) -> None:
    """Let the key of this sign-in read what was written; the audit records it."""
    who = await gateway.me()
    right = f"/admin/keys/{segment(who['key_id'])}/content"
    await gateway.ask("PUT", right, {"allowed": True})
