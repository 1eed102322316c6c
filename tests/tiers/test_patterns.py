"""The abstraction tier at a real gateway: consent is read there, answers come from the cards."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from people import People

from triptych.errors import LearningError
from triptych.learning.abstraction import vocabulary
from triptych.learning.abstraction.audit.synthetic import company
from triptych.learning.abstraction.build import Home
from triptych.learning.abstraction.consents import GatewayConsents
from triptych.learning.abstraction.counting import Rules
from triptych.learning.abstraction.serving import open_source
from triptych.learning.abstraction.vocabulary import Vocabulary

QUESTION = "How do other companies handle on-call?"
OTHERS = ("firm1", "firm2", "firm3", "firm4", "firm5")


def passes(_: Vocabulary, __: Rules) -> dict[str, Any]:
    return {"passed": True}


def home_of(folder: Path, names: tuple[str, ...]) -> Home:
    home = Home(folder, vocabulary.load(), Rules(k=3))
    for name in names:
        home.register.agree(name, "administrator")
        practices = ["on_call_rotation"] * (name != "firm5")
        home.read_company(name, company(random.Random(name), name, practices).documents)
    home.register.save()
    return home


@pytest.fixture
async def people(workshop):  # type: ignore[no-untyped-def]
    """A gateway with two companies, of which none agreed yet, and a model that words cards."""
    upstream = await workshop.upstream("5 of 6 companies have people on call [1].")
    config = workshop.UpstreamConfig(
        "local", f"{upstream.url}/v1", {"base": "m", "abstraction": "m"}, external=False
    )
    gateway = await workshop.gateway({"model": config}, allow_private_addresses=True)
    await gateway.set(tier__abstraction=True, provider__local=True)
    return await People(gateway).settle(), upstream


async def agree(people: People, company_id: str, granted: bool) -> None:
    status, _ = await people.call(
        "admin", "PUT", "/api/consent",
        {"purpose": "abstraction", "granted": granted, "company_id": company_id},
    )  # fmt: skip
    assert status == 200


async def test_the_newest_word_of_a_company_at_the_gateway_decides(people) -> None:  # type: ignore[no-untyped-def]
    who, _ = people
    consents = GatewayConsents(who.gateway.url, who.keys["admin"])

    async def granted() -> dict[str, str]:
        return await asyncio.to_thread(consents.granted, ["acme", "globex"])

    assert await granted() == {}
    await agree(who, "acme", True)
    await agree(who, "globex", True)
    assert set(await granted()) == {"acme", "globex"}
    await agree(who, "globex", False)
    found = await granted()
    assert set(found) == {"acme"}
    assert found["acme"].startswith("company:")


async def test_without_the_gateway_nothing_is_built_and_nothing_changes(tmp_path: Path) -> None:
    home = home_of(tmp_path, OTHERS)
    with pytest.raises(LearningError, match="did not answer"):
        home.build(passes, GatewayConsents("http://127.0.0.1:9", "tri_x"))
    assert set(home.register.members) == set(OTHERS)


async def test_a_contributor_is_answered_from_the_cards_and_any_other_by_the_model(
    people, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    who, upstream = people
    home = home_of(tmp_path / "abstraction", ("acme", *OTHERS))
    assert home.build(passes).release is not None
    runtime = who.gateway.runtime
    runtime.sources = {"abstraction": open_source(tmp_path / "abstraction")}
    runtime.selector.sourced = runtime.sources

    async def ask(key: str) -> dict[str, Any]:
        status, body = await who.call(
            key, "POST", "/v1/chat/completions",
            {"model": "abstraction", "messages": [{"role": "user", "content": QUESTION}]},
        )  # fmt: skip
        assert status == 200, body
        return dict(body)

    upstream.text = "5 of 6 companies, and Globex too [1]."
    answered = await ask("user")
    text = answered["choices"][0]["message"]["content"]
    # The model's words hold a name that is in no table: the table's own words are shown.
    assert "At least 4 of 6 companies have people on call by a rotation" in text
    assert "Your company: have people on call" in text
    assert answered["triptych"]["words"] == "documents"
    foreign = await ask("foreign")
    assert "At least" not in foreign["choices"][0]["message"]["content"]
