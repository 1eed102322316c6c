"""What the pages do with a real gateway: conflicts, keys, one's own company; and what they draw."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from triptych.errors import TierError
from triptych.panels.console_gradio import audit, drawing, people, steering
from triptych.panels.console_gradio.effects import effects, named
from triptych.panels.gateway_client import GatewayClient

pytestmark = pytest.mark.timeout(400)


def chosen(seen: dict[str, Any], **changed: Any) -> list[Any]:
    wanted = {key: seen[key]["value"] for key in ("provider", "order", *steering.SWITCHES)}
    return list(
        (wanted | {key.replace("__", "."): value for key, value in changed.items()}).values()
    )


async def seen_by(client: GatewayClient) -> dict[str, Any]:
    read = await steering._read(client)
    return read[len(steering.SWITCHES) + 2]


def test_two_admins_meet_in_a_conflict_and_lose_nothing(gateway: str, own_home: Path) -> None:
    key = (own_home / "gateway" / "admin-key").read_text().strip()

    async def meet() -> None:
        one, other = GatewayClient(gateway, key), GatewayClient(gateway, key)
        first, second = await seen_by(one), await seen_by(other)
        await steering._apply(one, first, *chosen(first, fallback=False))
        with pytest.raises(TierError, match="fallback is at version 1, not 0"):
            await steering._apply(
                other, second | {"fallback": second["fallback"] | {"value": False}},
                *chosen(second, fallback=True),
            )  # fmt: skip
        # Another switch is no conflict, and does not undo what the first admin did.
        await steering._apply(other, second, *chosen(second, cache=False))
        now = await seen_by(one)
        assert (now["fallback"]["value"], now["cache"]["value"]) == (False, False)
        sequence = (await one.ask("GET", "/admin/audit", limit=1))["entries"][0]["sequence"]
        await steering._revert(one, sequence)
        assert (await seen_by(one))["cache"]["value"] is True
        assert "every one sound" in await audit._verify(one)

    asyncio.run(meet())


def test_a_revoked_key_is_refused(gateway: str, ask: Any, own_home: Path) -> None:
    admin = GatewayClient(gateway, (own_home / "gateway" / "admin-key").read_text().strip())

    async def make() -> tuple[str, str]:
        said = await people._create_key(admin, "<b>app</b>", "user", "", "", 1)
        key = said.partition("<code>")[2].partition("</code>")[0]
        rows = await people._rows(admin, "/api/keys", "keys")
        return key, next(row["key_id"] for row in rows if row["name"] == "<b>app</b>")

    key, key_id = asyncio.run(make())
    assert ask(gateway, key) != 401
    warned = asyncio.run(people._foresee_revoke(admin, key_id))
    assert "<b>app</b>" not in warned, "names of others are text"
    asyncio.run(people._revoke(admin, key_id))
    deadline = time.monotonic() + 60
    while ask(gateway, key) != 401:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_effects_say_what_the_last_hour_would_have_done() -> None:
    foreseen = {
        "requests": 100, "elsewhere": 12, "refused": 2,
        "moves": [{"from": "base at <b>openai</b>", "to": "base at local", "requests": 12}],
    }  # fmt: skip
    told = effects(named({"provider.openai": False, "provider": "local"}), foreseen)
    assert "provider.openai off, provider = local: 12% of the last hour's 100 requests" in told
    assert "2 would have been refused" in told
    assert "12: base at &lt;b&gt;openai&lt;/b&gt; → base at local" in told
    quiet = {"requests": 0, "elsewhere": 0, "refused": 0, "moves": []}
    assert "no request in the last hour" in effects("fallback off", quiet)


def test_whatever_a_model_or_a_stranger_wrote_is_drawn_as_text() -> None:
    attack = '<script>alert(1)</script>" onmouseover="x'
    kept = {"messages": [{"role": attack, "content": attack}], "answer": attack}
    given = {"kind": attack, "value": {attack: attack}}
    entry = {"sequence": 1, "actor": attack, "before": {attack: attack}, "after": attack}
    drawn = [
        drawing.beside(kept, given),
        drawing.conversation(kept),
        drawing.audit([entry]),
        drawing.feedback([{"feedback_id": attack, "value": attack}]),
        drawing.shares("By model", [{"provider": attack, "requests": 1}], "provider"),
        drawing.waterfall({
            "request_id": attack, "created_at": 0.0, "latency_s": 1.0, "outcome": "failed",
            "status": 502, "tier_asked": "base", "model_asked": attack, "flags": {"f": attack},
            "tries": [{"number": 1, "upstream": attack, "outcome": "failed", "created_at": 0.1,
                       "latency_s": 0.5, "error_code": attack}],
        }),
    ]  # fmt: skip
    for html in drawn:
        assert "<script" not in html
        assert 'x" onmouseover' not in html and '" onmouseover="x"' not in html
