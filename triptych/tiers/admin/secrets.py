"""Routes over secrets: written, replaced, removed; no route gives one back."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, SecretStr

from triptych.errors import EditConflict, InvalidQuery
from triptych.secrets import hint_of
from triptych.tiers.admin.routing import Body, RouteCall, Routes
from triptych.tiers.store import secrets as store
from triptych.tiers.store.audit import KEY_VARIABLE

routes = Routes()
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


class NewSecret(Body):
    """A Space's token or a provider's key; surrounding blanks do not belong to it."""

    value: SecretStr = Field(min_length=1, max_length=4096)


@routes.add("GET", "/admin/secrets", "admin")
async def list_secrets(call: RouteCall) -> Any:
    """List secrets by name, with the end of each and who needs it."""
    needed: dict[str, list[str]] = {}
    for upstream in call.runtime.selector.catalogue.upstreams.values():
        for name in upstream.all_key_names:
            needed.setdefault(name, []).append(upstream.name)
    rows = await store.listed(call.runtime.database)
    entered = {row["name"] for row in rows}
    return {
        "secrets": [{**row, "used_by": needed.get(row["name"], [])} for row in rows],
        "from_environment": [
            {"name": name, "is_set": call.runtime.factory.has_key(name), "used_by": users}
            for name, users in sorted(needed.items())
            if name not in entered
        ],
    }


@routes.add("PUT", "/admin/secrets/{name}", "admin", body=NewSecret)
async def save_secret(call: RouteCall) -> Any:
    """Enter a secret; upstreams that name it use it from the next request on."""
    name = _name(call)
    value = call.body.value.get_secret_value().strip()
    if not value or not value.isascii() or not value.isprintable():
        raise InvalidQuery("a secret is printable ASCII without line breaks", param="value")
    await call.runtime.refresh()
    _refuse_second_key(call.runtime.unopened)
    sealed = call.runtime.vault.seal(name, value)
    await store.save(call.runtime.database, name, sealed, hint_of(value), actor=call.actor)
    await call.runtime.refresh()
    return {"name": name, "hint": hint_of(value)}


def _refuse_second_key(unopened: frozenset[str]) -> None:
    """Refuse to seal with a key that does not open what is sealed: other nodes could not open it.

    Raises: EditConflict.
    """
    if unopened:
        names = ", ".join(sorted(unopened)[:5])
        raise EditConflict(
            f"this node's sealing key does not open {names}: it was sealed on another node, or"
            " the key is lost",
            hint=f"start this node with the {KEY_VARIABLE} of the other one (its file"
            " gateway/secrets-key); if that key is lost, remove these secrets first",
            code="another_sealing_key",
        )


@routes.add("DELETE", "/admin/secrets/{name}", "admin")
async def remove_secret(call: RouteCall) -> Any:
    """Remove a secret; entered upstreams that need it are out of use with the same act."""
    name = _name(call)
    stopped = await store.remove(call.runtime.database, name, actor=call.actor)
    await call.runtime.refresh()
    return {"name": name, "upstreams_stopped": stopped}


def _name(call: RouteCall) -> str:
    name = call.path["name"]
    if not _NAME.fullmatch(name):
        raise InvalidQuery("a name is of letters, digits, _ . and -", param="name")
    return name
