"""Where a Space is in its life, and how it is brought back: one wake for all who wait.

A Space that is known by its id is watched through the hub; one known by its address alone is
watched at its own address. Polling is shared by every caller and never faster than once a second.

Source: https://huggingface.co/docs/hub/spaces-overview; a sleeping Space starts when visited.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

from yarl import URL

from triptych.config import environment
from triptych.errors import (
    ConfigError,
    UpstreamBusy,
    UpstreamError,
    UpstreamFailed,
    UpstreamMissing,
    UpstreamWaking,
)
from triptych.tiers.providers.transport import Transport
from triptych.tiers.rules.catalogue import direct_host, space_id
from triptych.tiers.rules.egress import parse_address

logger = logging.getLogger("triptych.gateway.spaces")

RUNNING = frozenset(("RUNNING", "RUNNING_BUILDING", "RUNNING_APP_STARTING"))
COMING = frozenset(("BUILDING", "APP_STARTING"))
ASLEEP = frozenset(("SLEEPING", "STOPPED"))
POLL_S = 1.0
POLL_MAX_S = 5.0
#: Longer than this no wake is followed; huggingface.co gives a start 30 minutes at most.
FOLLOW_S = 1800.0
#: An error stage is looked at again after this long.
REST_S = 60.0
_READY_PATHS = ("health", "config", "gradio_api/info", "v1/models")


@dataclass(frozen=True, slots=True)
class Place:
    """What is known about where a Space answers."""

    space: str
    """`org/name`, empty when only an address is known."""
    base: URL


class SpaceLifecycle:
    """Locate one Space, know its stage, wake it once."""

    def __init__(self, transport: Transport, address: str, *, wake_timeout_s: float) -> None:
        self._transport = transport
        self._address = address
        self._wake_timeout_s = wake_timeout_s
        self._place: Place | None = None
        self._waking: asyncio.Task[None] | None = None
        self._woken_at = 0.0
        self.stage = ""
        self.hub_calls = 0
        self._hub_rests_until = 0.0

    async def place(self) -> Place:
        """Find where the Space answers; asked once."""
        if self._place is None:
            self._place = await self._locate()
        return self._place

    async def _locate(self) -> Place:
        endpoint = environment.hub_endpoint()
        on_hub = (environment.DEFAULT_HUB_ENDPOINT, endpoint)
        if "://" in self._address:
            url = parse_address(self._address)
            if not any(str(url).startswith(f"{hub}/spaces/") for hub in on_hub):
                return Place("", url)
        try:
            space = space_id(self._address)
        except ConfigError as error:
            raise UpstreamMissing(error.message, hint=error.hint) from error
        if endpoint == environment.DEFAULT_HUB_ENDPOINT:
            return Place(space, URL(f"https://{direct_host(space)}"))
        described = await self._hub(f"/api/spaces/{space}")
        host = described.get("host")
        if not isinstance(host, str) or "://" not in host:
            raise UpstreamMissing(f"the hub does not say where {space} answers")
        return Place(space, parse_address(host))

    async def _hub(self, path: str) -> dict[str, Any]:
        """Ask the hub one question, at the pace it allows."""
        wait_s = self._hub_rests_until - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        self.hub_calls += 1
        try:
            body, _ = await self._transport.json("GET", URL(environment.hub_endpoint() + path))
        except UpstreamBusy as error:
            self._hub_rests_until = time.monotonic() + (error.retry_after_s or 30.0)
            raise
        except UpstreamMissing as error:
            raise UpstreamMissing(
                f"the hub knows no Space {self._address}, or it is private",
                hint="a private Space needs a token that may read it",
            ) from error
        return body if isinstance(body, dict) else {}

    async def look(self) -> str:
        """Return the Space's stage as the hub tells it; empty when there is no hub to ask."""
        place = await self.place()
        if not place.space:
            return ""
        runtime = await self._hub(f"/api/spaces/{place.space}/runtime")
        self.stage = str(runtime.get("stage") or "")
        return self.stage

    async def recover(self, failure: UpstreamError) -> None:
        """Return when the Space is there again, having waited for it if it sleeps or starts.

        Raises: `failure` itself when the Space is awake, so that the Space is not the cause;
        UpstreamFailed when it is paused or broken; UpstreamWaking when it takes too long.
        """
        place = await self.place()
        if self._waking is None or self._waking.done():
            if place.space:
                stage = await self._look_or(failure)
                if stage in RUNNING:
                    if time.monotonic() - self._woken_at < POLL_S:
                        return
                    raise failure
                self._refuse_broken(stage)
            elif not _looks_asleep(place, failure):
                raise failure
            self._waking = asyncio.create_task(self._wake(place), name="wake")
            self._waking.add_done_callback(_forget_result)
            self._woken_at = time.monotonic()
        left_s = self._woken_at + self._wake_timeout_s - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                await asyncio.shield(self._waking)
        except TimeoutError as error:
            raise UpstreamWaking(
                f"{self._address} is starting ({self.stage or 'not ready'})",
                hint="it is being woken; come back later",
                retry_after_s=max(5.0, min(60.0, self._wake_timeout_s)),
            ) from error

    async def _look_or(self, failure: UpstreamError) -> str:
        try:
            return await self.look()
        except UpstreamError as error:
            raise failure from error

    def _refuse_broken(self, stage: str) -> None:
        if stage in COMING or stage in ASLEEP or stage in RUNNING or not stage:
            return
        logger.error("the Space %s is %s", self._address, stage)
        raise UpstreamFailed(
            f"{self._address} is {stage}",
            hint="restart it: `triptych spaces restart`, and read `triptych spaces logs`",
            code="space_paused" if stage == "PAUSED" else "space_broken",
            status=503,
            retryable=False,
            hold_s=REST_S,
        )

    async def _wake(self, place: Place) -> None:
        """Visit the Space until it answers; every caller waits for this one task."""
        logger.info("waking %s", self._address)
        end = time.monotonic() + FOLLOW_S
        pause_s = POLL_S
        while time.monotonic() < end:
            stage = await self._stage_while_waking(place)
            self._refuse_broken(stage)
            if (stage in RUNNING or not place.space) and await self.answers(place.base):
                self._woken_at = time.monotonic()
                logger.info("%s answers again", self._address)
                return
            if stage in ASLEEP:
                await self.answers(place.base)
            await asyncio.sleep(pause_s)
            pause_s = min(POLL_MAX_S, pause_s * 1.2)
        raise UpstreamWaking(f"{self._address} did not start within {FOLLOW_S / 60:g} minutes")

    async def _stage_while_waking(self, place: Place) -> str:
        if not place.space:
            return ""
        try:
            return await self.look()
        except UpstreamError as error:
            logger.warning("the hub does not tell a stage: %s", error.message)
            return self.stage

    async def answers(self, base: URL) -> bool:
        """Visit the Space; tell whether its application answers."""
        for path in _READY_PATHS:
            try:
                async with asyncio.timeout(POLL_MAX_S):
                    await self._transport.json("GET", base / path)
            except UpstreamMissing:
                continue
            except (UpstreamError, TimeoutError):
                return False
            return True
        return False

    async def close(self) -> None:
        """Stop waiting."""
        if self._waking is not None:
            self._waking.cancel()


def _looks_asleep(place: Place, failure: UpstreamError) -> bool:
    """Return whether a failure without a hub to ask is a Space that starts."""
    on_spaces = (place.base.host or "").endswith(".hf.space")
    return on_spaces and failure.code == "upstream_page"


def _forget_result(task: asyncio.Task[None]) -> None:
    """A wake that no request waits for may fail without an error; it was logged."""
    if not task.cancelled():
        task.exception()
