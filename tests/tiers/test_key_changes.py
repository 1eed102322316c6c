"""A change of one key reaches a worker as one row, and means what reading everything means."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from triptych.errors import Unauthenticated
from triptych.tiers.pipeline.breaker import Breaker
from triptych.tiers.store import accounts, memberships, settings
from triptych.tiers.store.cluster import key_changes
from triptych.tiers.store.database import Database, across

ALL = across("a test looks at everything")


class Statements:
    """Count how often the whole table of keys is read."""

    def __init__(self, database: Database) -> None:
        self.whole = 0
        event.listen(database.engine.sync_engine, "before_cursor_execute", self._see)

    def _see(self, _: Any, __: Any, statement: str, *___: Any) -> None:
        text = " ".join(statement.split())
        if text.startswith("SELECT api_keys") and "WHERE" not in text:
            self.whole += 1


def who(gateway: Any, key: str) -> str:
    return gateway.runtime.keys.authenticate(f"Bearer {key}").key_id


async def test_found_b14_a_new_or_revoked_key_is_read_alone(workshop) -> None:
    """With 50,000 keys each sign-in stalled every worker for 2.2 s: all were read again."""
    gateway = await workshop.gateway()
    await gateway.runtime.refresh()
    seen = Statements(gateway.database)
    made = [await accounts.create_key(gateway.database, name=f"k{n}", actor="t") for n in range(20)]
    await gateway.runtime.refresh()
    ids = [who(gateway, key) for key in made]
    assert len(set(ids)) == 20
    await accounts.revoke_key(gateway.database, ids[3], actor="t")
    await gateway.runtime.refresh()
    with pytest.raises(Unauthenticated):
        who(gateway, made[3])
    assert who(gateway, made[4]) == ids[4]
    assert seen.whole == 0
    by_row = dict(gateway.runtime.keys._known)
    gateway.runtime._versions = {}
    gateway.runtime.accounts._accounts = None
    await gateway.runtime.refresh()
    assert seen.whole == 1
    assert gateway.runtime.keys._known == by_row, "read whole it is the same"


async def test_a_change_of_more_than_keys_is_read_whole_and_reaches_the_keys_of_a_user(
    workshop,
) -> None:
    gateway = await workshop.gateway()
    database = gateway.database
    await accounts.create_company(database, "acme", "Acme", actor="t")
    await accounts.create_user(database, "ann", companies=["acme"], actor="t")
    await gateway.runtime.refresh()
    key = await accounts.create_key(
        database, name="a", kind="user", user_id="ann", company_id="acme", actor="t"
    )
    await gateway.runtime.refresh()
    assert gateway.runtime.keys.authenticate(f"Bearer {key}").member_of("acme")
    seen = Statements(database)
    await memberships.set_membership(database, "ann", "acme", member=False, scope=ALL, actor="t")
    await accounts.create_key(database, name="b", actor="t")
    await gateway.runtime.refresh()
    assert seen.whole == 1
    with pytest.raises(Unauthenticated):
        who(gateway, key)


async def test_who_is_too_far_behind_reads_everything(workshop, monkeypatch) -> None:
    monkeypatch.setattr(key_changes, "_KEPT", 3)
    gateway = await workshop.gateway()
    known = (await settings.versions(gateway.database))["accounts"]
    for n in range(6):
        await accounts.create_key(gateway.database, name=f"k{n}", actor="t")
    now = (await settings.versions(gateway.database))["accounts"]
    assert await key_changes.between(gateway.database, known, now) is None
    found = await key_changes.between(gateway.database, now - 2, now)
    assert found is not None and {row["name"] for row in found} == {"k4", "k5"}


async def test_a_large_file_of_last_good_settings_is_written_once_in_a_while_and_at_the_end(
    workshop, monkeypatch
) -> None:
    from triptych.tiers.pipeline import last_good

    monkeypatch.setattr(last_good, "_SMALL_BYTES", 10)
    gateway = await workshop.gateway()
    path = gateway.home / "gateway" / "settings.json"
    await gateway.runtime.refresh()
    before = path.read_bytes()
    await accounts.create_key(gateway.database, name="late", actor="t")
    await gateway.runtime.refresh()
    assert path.read_bytes() == before
    await gateway.stop()
    assert b'"late"' in path.read_bytes()


def test_a_breaker_heeds_others_by_what_they_found() -> None:
    now = [100.0]
    told: list[tuple[str, float]] = []
    one = Breaker(2, 30.0, lambda: now[0], on_open=lambda news, s: told.append((news, s)))
    one.heed("failing", 0.0)
    assert one.state == "half_open" and one.allows() and not one.allows(), "one request probes"
    one.succeeded()
    assert one.state == "closed" and told == []
    one.heed("held", 20.0)
    assert one.state == "open" and one.retry_after_s() == 20.0
    one.heed("closed", 0.0)
    assert one.state == "closed"
    one.failed()
    one.failed()
    one.succeeded()
    one.hold(7.0)
    assert told == [("failing", 30.0), ("held", 7.0)], "what it heard it does not tell again"


@pytest.mark.database
async def test_what_one_node_finds_out_of_an_upstream_reaches_the_other(
    workshop, own_home, postgres
) -> None:
    from .test_agreement import fresh

    url = await fresh(postgres, "news")
    upstream = await workshop.upstream()
    declared = {
        "o": workshop.UpstreamConfig("openai", f"{upstream.url}/v1", {"base": "m"}),
    }
    found = []
    for name in ("one", "two"):
        workshop.home = own_home / name
        key = found[0].key if found else ""
        found.append(
            await workshop.gateway(declared, key=key, database_url=url, poll_interval_s=3600.0)
        )
    one, two = found
    for gateway in found:
        await gateway.runtime.news.exchange()
    one.runtime.dispatcher.breakers["o"].hold(50.0)
    for gateway in found:
        await gateway.runtime.news.exchange()
    held = two.runtime.dispatcher.breakers["o"]
    assert held.state == "open"
    assert 40 < held.retry_after_s() <= 50
    one.runtime.dispatcher.breakers["o"].reset()
    one.runtime.news.tell("o", "closed")
    for gateway in found:
        await gateway.runtime.news.exchange()
    assert held.state == "closed"
