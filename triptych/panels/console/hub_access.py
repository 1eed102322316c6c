"""The hub as the Console uses it: with this installation's token, for admins of the service."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from triptych.errors import Forbidden, TriptychError
from triptych.hub.client import Hub
from triptych.panels.command import hub_token
from triptych.panels.web.site import Visit


def open_hub(address: str | None) -> Hub:
    """Return a client of the hub with this installation's token."""
    return Hub(address, hub_token().get("HF_TOKEN"))


async def require_admin(visit: Visit) -> None:
    """Refuse a visitor whose key is not an admin's any more: the hub does not ask the gateway.

    Raises: Forbidden, Unauthenticated.
    """
    if (await visit.gateway.me())["role"] != "admin":
        raise Forbidden("only an admin of the whole service may do this")


async def offered_models(visit: Visit, address: str | None) -> Response:
    """Answer with the hub's newest models as options of a field; without any where it is away."""
    await require_admin(visit)
    try:
        models = await asyncio.to_thread(lambda: open_hub(address).models(limit=50))
    except TriptychError:  # the name can be typed; what is wrong with the hub is said elsewhere
        models = []
    return visit.page("console/options.html", names=models)
