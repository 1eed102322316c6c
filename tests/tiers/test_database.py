"""What every writer relies on: a transaction that is given up holds nobody up."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

from sqlalchemy import text

from triptych.tiers.store.database import Database, across

SCOPE = across("a test writes")


async def test_a_cancelled_write_leaves_no_lock_behind(own_home: Path, migrated: Path) -> None:
    """As when a client leaves, or a worker stops; its traceback may live on."""
    own_home.mkdir(parents=True)
    shutil.copy(migrated, own_home / "gateway.db")
    database = Database(f"sqlite:///{own_home / 'gateway.db'}")

    async def write() -> None:
        async with database.write(SCOPE) as connection:
            for _ in range(3):
                await connection.raw.execute(text("SELECT count(*) FROM requests"))

    chance = random.Random(3)
    ended = []
    for _ in range(150):
        work = asyncio.create_task(write())
        for _ in range(chance.randrange(25)):
            await asyncio.sleep(0)
        await asyncio.sleep(chance.random() * 0.004)
        work.cancel()
        ended += await asyncio.gather(work, return_exceptions=True)
        await write()
    assert sum(isinstance(end, asyncio.CancelledError) for end in ended) > 10
    await database.close()
