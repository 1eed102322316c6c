"""Background tasks of a worker: requests over personal data, and retention.

Every worker wakes on request and at an interval; the database lets one of them take each
thing. A request that its worker did not finish is taken up by another.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import or_, update
from sqlalchemy.exc import IntegrityError

from triptych.config.gateway import GatewayConfig
from triptych.errors import StorageError, TriptychError
from triptych.processes import BackgroundTask
from triptych.tiers.rules.consent import PURPOSES
from triptych.tiers.rules.limits import WrongKeys
from triptych.tiers.store import audit, refused
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.personal_data import consents, personal, privacy, retention
from triptych.tiers.store.recorder import Recorder
from triptych.wire.evidence import ErasableSource

logger = logging.getLogger("triptych.gateway")

_ACTOR = "the gateway"
_SCOPE = across("background tasks touch every company")
#: Records that were on their way during an erasure arrive within this.
_LATE_S = 86_400.0
_NOTED_EVERY_S = 600.0
_JUMP_S = 3_600.0
_BELIEVED_AFTER_S = 86_400.0


class DateWatch:
    """Detect that the date jumped, by the clock that counts on since the machine started.

    What is old enough to delete is decided by the date, so after a jump nothing is, for a day:
    a wrong date is put right by then, and a right one is believed.
    """

    def __init__(self) -> None:
        self._began: tuple[float, float] = (time.time(), _steady_s())
        self._jumped_at_s: float | None = None

    def jumped(self) -> bool:
        """Return whether the date cannot be believed now."""
        date, steady_s = time.time(), _steady_s()
        off_s = (date - self._began[0]) - (steady_s - self._began[1])
        if abs(off_s) < _JUMP_S:
            self._jumped_at_s = None
            return False
        if self._jumped_at_s is None:
            self._jumped_at_s = steady_s
            logger.warning("the clock jumped by %.0f s: nothing is deleted for a day", off_s)
        elif steady_s - self._jumped_at_s >= _BELIEVED_AFTER_S:
            self._began, self._jumped_at_s = (date, steady_s), None
            return False
        return True


def _steady_s() -> float:
    """Return seconds that go on while the machine sleeps, where the system counts them."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class BackgroundTasks:
    """Work on privacy requests and on retention, one thing at a time."""

    def __init__(
        self,
        database: Database,
        recorder: Recorder,
        config: GatewayConfig,
        sources: Iterable[object] = (),
        *,
        home: Path,
        wrong_keys: WrongKeys,
    ) -> None:
        self._home = home
        self._wrong_keys = wrong_keys
        self._clock = DateWatch()
        self._noted_s = float("-inf")
        self._sources = tuple(one for one in sources if isinstance(one, ErasableSource))
        self._database = database
        self._recorder = recorder
        self._config = config
        self._woken = asyncio.Event()
        self.task = BackgroundTask("background-tasks", self._run, logger=logger)

    def wake(self) -> None:
        """Run the tasks now."""
        self._woken.set()

    def start(self) -> None:
        """Start the loop: it runs when woken, and at an interval."""
        self.task.start()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(min(60.0, self._config.retention_interval_s)):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            try:
                while await self.work_once():
                    pass
                await self.tidy()
                if time.monotonic() - self._noted_s >= _NOTED_EVERY_S:
                    await self.note_wrong_keys()
                await audit.anchor(self._database, self._home)
                self.task.succeeded()
            except (StorageError, OSError) as error:
                logger.warning("background tasks wait for the database: %s", error)

    async def close(self) -> None:
        """Stop; what is half done is taken up again later."""
        await self.task.stop()

    async def work_once(self) -> bool:
        """Work on one request.

        Returns: whether there was one.
        """
        row = await privacy.claim(self._database)
        if row is None:
            return False
        try:
            state, result = await self._carry_out(row)
        except StorageError:
            raise  # it stays `running` and is taken up again
        except TriptychError as error:
            state, result = "failed", {"reason": error.message}
        await privacy.finish(self._database, row, state, result, actor=_ACTOR)
        return True

    async def _carry_out(self, row: Mapping[str, Any]) -> tuple[privacy.State, dict[str, Any]]:
        subject = personal.Subject(row["company_id"], row["user_id"])
        categories = row["details"].get("categories") or personal.CATEGORIES
        if row["kind"] == "export":
            counts: dict[str, int] = {}
            async for one in personal.export(self._database, subject, categories):
                counts[one["table"]] = counts.get(one["table"], 0) + 1
            return "done", {"rows": counts}
        if row["kind"] == "restriction":
            return "done", await self._restrict(subject)
        if (reason := await privacy.held(self._database, subject)) is not None:
            return "refused", {"reason": f"under a legal hold: {reason}"}
        before = row["details"].get("before")
        counts = await personal.erase(self._database, subject, categories, before=before)
        # Keys are refused by every worker within two looks; what was in flight is then on record.
        await asyncio.sleep(2 * self._config.poll_interval_s + self._config.flush_interval_s)
        await self._recorder.flush()
        documents = 0
        if before is None and set(categories) >= set(personal.CATEGORIES):
            for source in self._sources:
                documents += await source.erase(subject.company_id, subject.user_id)
        aside = refused.forget(self._recorder.root, subject.company_id, subject.user_id)
        late = await personal.erase(self._database, subject, categories, before=before)
        # Only now: a copy of what was erased may stand in the database's log until here.
        await self._database.forget_deleted()
        erased = {name: counts.get(name, 0) + late.get(name, 0) for name in counts | late}
        return "done", {"erased": {**erased, "set_aside": aside, "knowledge": documents}}

    async def _restrict(self, subject: personal.Subject) -> dict[str, Any]:
        for purpose in PURPOSES:
            if purpose == "serve":
                continue
            user_id = subject.user_id
            await consents.set_consent(
                self._database,
                purpose,
                False,
                company_id=None if user_id else subject.company_id,
                user_id=user_id,
                actor=_ACTOR,
            )
        return {"withdrawn": [purpose for purpose in PURPOSES if purpose != "serve"]}

    async def note_wrong_keys(self) -> None:
        """Put on the audit from where wrong keys came, when they were too many."""
        self._noted_s = time.monotonic()
        async with self._database.write(_SCOPE) as connection:
            for address, refused_count in self._wrong_keys.take_notes().items():
                await audit.append(
                    connection,
                    actor=_ACTOR,
                    action="keys.wrong",
                    subject=f"addresses/{address}",
                    after={"refused": refused_count},
                )

    async def tidy(self, now: float | None = None) -> dict[str, int] | None:
        """Let run out what was kept long enough, if it is time and no other worker is at it.

        Returns: the report; None when it was not this worker's turn.
        """
        if now is None:
            now = time.time()
            if self._clock.jumped() or not await self._turn(now):
                return None
        report = await retention.run(self._database, self._config.retention_days, now)
        report["late_arrivals"] = await self._sweep(now)
        if any(report.values()):
            await self._database.forget_deleted()
        async with self._database.write(_SCOPE) as connection:
            await connection.execute(
                update(t.background_tasks)
                .where(t.background_tasks.c.name == "retention")
                .values(finished_at=time.time(), report=report)
            )
            if any(report.values()):
                await audit.append(
                    connection,
                    actor=_ACTOR,
                    action="retention.run",
                    subject="retention",
                    after=report,
                )
        return report

    async def _turn(self, now: float) -> bool:
        """Claim the task for this interval."""
        c = t.background_tasks.c
        due, ahead = now - self._config.retention_interval_s, now + _JUMP_S
        try:
            async with self._database.write(_SCOPE) as connection:
                taken = await connection.execute(
                    update(t.background_tasks)
                    # One that began in the future ran while the clock was wrong.
                    .where(c.name == "retention", or_(c.started_at <= due, c.started_at > ahead))
                    .values(started_at=now)
                )
                if taken.rowcount == 0:
                    row = {"name": "retention", "started_at": now}
                    await connection.execute(t.background_tasks.insert(), row)
        except IntegrityError:
            return False  # there is a row, and it is not due: another worker did it
        return True

    async def _sweep(self, now: float) -> int:
        """Erase recently erased users again: a record may have been on its way."""
        done = 0
        for row in await privacy.lately_erased(self._database, now - _LATE_S):
            subject = personal.Subject(row["company_id"], row["user_id"])
            chosen = set(row["details"].get("categories") or personal.CATEGORIES) - {"account"}
            counts = await personal.erase(
                self._database, subject, chosen, before=row["details"].get("before")
            )
            done += sum(counts.values())
        return done
