"""Routes of signing in: a hub's statement for a key that lasts a working day."""

from __future__ import annotations

import time
from typing import Any

from pydantic import Field

from triptych.errors import Forbidden
from triptych.tiers.admin.routing import Body, RouteCall, Routes
from triptych.tiers.rules.identity import user_of
from triptych.tiers.store import accounts as store

routes = Routes()
_LASTS_S = 12 * 3600.0


class Statement(Body):
    """What the hub states about a user who signed in there."""

    id_token: str = Field(min_length=1, max_length=16_384)


@routes.add("POST", "/api/session", "anyone", body=Statement)
async def sign_in(call: RouteCall) -> Any:
    """Exchange a hub's statement for a key of the user it names."""
    config = call.runtime.config
    user_id = await user_of(call.body.id_token, config.identity_issuer, config.identity_client)
    role = await store.role_of(call.runtime.database, user_id)
    if role is None:
        raise Forbidden(
            f"{user_id} is not entered here", hint="an admin enters users in the Console",
            code="unknown_user",
        )  # fmt: skip
    key = await store.create_key(
        call.runtime.database, name=f"signed in as {user_id}", kind="user", role=role,
        user_id=user_id, expires_at=time.time() + _LASTS_S, session=True, actor=user_id,
    )  # fmt: skip
    await call.runtime.refresh()
    return {"key": key, "user_id": user_id, "role": role}


@routes.add("DELETE", "/api/session", "user")
async def sign_out(call: RouteCall) -> Any:
    """Revoke the key this request was sent with, where signing in made it."""
    if not call.principal.signed_in:
        raise Forbidden(
            "this key was not made by signing in",
            hint="an admin revokes it: DELETE /api/keys/ID",
            code="not_a_session",
        )
    await store.revoke_key(call.runtime.database, call.principal.key_id, actor=call.actor)
    await call.runtime.refresh()
    return {"key_id": call.principal.key_id}
