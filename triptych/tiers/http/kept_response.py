"""One answer of `/v1/responses` between the client and what is kept of the conversation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from triptych.errors import StorageError
from triptych.tiers.http.requests import Request, with_headers
from triptych.tiers.http.responses import Shape, input_items
from triptych.tiers.pipeline.runtime import Runtime
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.query import Query
from triptych.tiers.store.personal_data import responses

logger = logging.getLogger("triptych.gateway")


class KeptResponse:
    """Read the turns before an answer, and keep it where settings and the client want that.

    What is decided stands in the request as `store`, which every shape of the answer repeats.
    """

    def __init__(
        self, runtime: Runtime, given: Shape, request: Request, principal: Principal
    ) -> None:
        self._database = runtime.database
        self._given = given
        asking = with_headers(Query("", "chat", [], {}, "base"), request)
        self._owner = responses.owner_of(principal, asking.user_id, asking.company_id)
        wanted, setting = given.get("store"), runtime.config.store_responses
        given["store"] = not principal.anonymous and (
            (setting == "always" and wanted is not False) or (setting == "asked" and wanted is True)
        )

    async def earlier(self) -> list[dict[str, Any]]:
        """Return the items of the conversation before this request.

        Raises: NotFound.
        """
        previous = self._given.get("previous_response_id")
        if previous is None:
            return []
        return await responses.earlier(self._database, self._owner, previous)

    async def keep(self, answer: Callable[[], Shape]) -> Shape:
        """Keep an answer and return it; where the database is away, it says that it is not kept."""
        body = answer()
        if not self._given["store"]:
            return body
        previous = self._given.get("previous_response_id")
        try:
            await responses.keep(
                self._database, self._owner, input_items(self._given), body, previous
            )
        except StorageError as error:
            logger.warning("an answer is not kept: %s", error)
            self._given["store"] = False
            return {**body, "store": False}
        return body
