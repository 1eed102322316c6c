"""Answers of `/v1/responses` are kept where it is asked for, go on, run out and are erased."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest
from sqlalchemy import select

from triptych.config.gateway import UpstreamConfig
from triptych.tiers.store.database import across
from triptych.tiers.store.personal_data import personal, responses, retention

ALL = across("a test looks at everything")


async def rows(gateway: Any) -> list[dict[str, Any]]:
    async with gateway.database.read(ALL) as connection:
        return await connection.all(select(responses.table))


@pytest.mark.parametrize("stream", [False, True])
async def test_g25_a_conversation_goes_on_by_the_id_of_its_last_answer(place, stream) -> None:
    upstream, gateway = await place()
    previous: str | None = None
    async with gateway.sdk() as client:
        for turn in range(10):
            asked: dict[str, Any] = {"model": "m", "input": f"question {turn}", "store": True}
            if previous:
                asked["previous_response_id"] = previous
            if stream:
                async with client.responses.stream(instructions="be brief", **asked) as events:
                    answer = await events.get_final_response()
            else:
                answer = await client.responses.create(instructions="be brief", **asked)
            assert answer.store is True and answer.previous_response_id == previous
            previous = answer.id
            sent = upstream.requests[-1][1]["messages"]
            said = [m["content"].strip() for m in sent]
            expected = ["be brief"]
            for before in range(turn):
                expected += [f"question {before}", "fine"]
            assert said == [*expected, f"question {turn}"]
        again = await client.responses.retrieve(str(previous))
        assert (again.id, again.output_text.strip()) == (previous, "fine")
        (item,) = (await client.responses.input_items.list(str(previous))).data
        assert item.content[0].text == "question 9"
        await client.responses.delete(str(previous))
        with pytest.raises(openai.NotFoundError, match="is kept"):
            await client.responses.retrieve(str(previous))
        with pytest.raises(openai.NotFoundError, match="is kept"):
            await client.responses.create(model="m", input="x", previous_response_id=previous)
    assert len(await rows(gateway)) == 9


@pytest.mark.parametrize(
    ("setting", "store", "kept"),
    [("asked", None, False), ("asked", True, True), ("asked", False, False),
     ("always", None, True), ("always", False, False), ("never", True, False)],
)  # fmt: skip
async def test_an_answer_is_kept_only_where_setting_and_client_allow(
    place, setting, store, kept
) -> None:
    _, gateway = await place(store_responses=setting)
    async with gateway.sdk() as client:
        more: dict[str, Any] = {} if store is None else {"store": store}
        answer = await client.responses.create(model="m", input="x", **more)
    assert answer.store is kept
    assert len(await rows(gateway)) == kept


async def test_another_person_or_company_reads_none_of_it(people) -> None:
    ask = {"model": "base", "input": "the secret of acme", "store": True}
    status, answer = await people.call("user", "POST", "/v1/responses", ask)
    assert status == 200
    path = f"/v1/responses/{answer['id']}"
    assert (await people.call("user", "GET", path))[0] == 200
    for who in ("foreign", "service", "company_admin", "admin"):
        more = {"model": "base", "input": "x", "previous_response_id": answer["id"]}
        assert (await people.call(who, "GET", path))[0] == 404, who
        assert (await people.call(who, "GET", f"{path}/input_items"))[0] == 404, who
        assert (await people.call(who, "DELETE", path))[0] == 404, who
        assert (await people.call(who, "POST", "/v1/responses", more))[0] == 404, who
    # an application keeps the answers of each of its end users apart
    ask["input"] = "mine"
    _, mine = await people.call("service", "POST", "/v1/responses", ask, x_triptych_user="u1")
    path = f"/v1/responses/{mine['id']}"
    assert (await people.call("service", "GET", path, x_triptych_user="u1"))[0] == 200
    assert (await people.call("service", "GET", path, x_triptych_user="u2"))[0] == 404
    assert (await people.call("service", "GET", path))[0] == 404


async def test_it_is_given_out_erased_and_runs_out_with_all_else(people) -> None:
    gateway = people.gateway
    for text in ("write to ann@acme.example", "plain"):
        ask = {"model": "base", "input": text, "store": True}
        assert (await people.call("user", "POST", "/v1/responses", ask))[0] == 200
    subject = personal.Subject(None, "ann")
    found = [r async for r in personal.export(gateway.database, subject, ["content"])]
    assert {r["table"] for r in found} == {"kept_responses"} and len(found) == 2
    later = time.time() + 31 * retention.DAY_S
    report = await retention.run(gateway.database, {}, later)
    assert report["responses_personal"] == 1 and len(await rows(gateway)) == 1
    done = await personal.erase(gateway.database, subject)
    assert done["kept_responses"] == 1 and await rows(gateway) == []


async def test_what_cannot_be_kept_is_answered_and_says_so(workshop, monkeypatch) -> None:
    upstream = await workshop.upstream("fine")
    gateway = await workshop.gateway(
        {"up": UpstreamConfig("local", f"{upstream.url}/v1", {"base": "m"})}
    )
    async with gateway.database.write(ALL) as connection:
        await connection.raw.exec_driver_sql("DROP TABLE kept_responses")
    async with gateway.sdk() as client:
        answer = await client.responses.create(model="base", input="x", store=True)
        assert answer.output_text == "fine" and answer.store is False
        async with client.responses.stream(model="base", input="x", store=True) as events:
            assert (await events.get_final_response()).store is False
