"""A company's switch masks personal data before an external upstream, and answers show it again."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from upstream_answers import DONE, delta, says

from triptych.config.gateway import UpstreamConfig
from triptych.tiers.pipeline.attempts.masking import Mask
from triptych.tiers.providers.base import Frame
from triptych.tiers.store import accounts

MAIL, CARD, PASS = "ann@acme.example", "4111 1111 1111 1111", 'password is "a\\b c"'
TEXT = f"Write to {MAIL}, again {MAIL}, from bob@acme.example; {CARD}; {PASS}"
CHAT = "/v1/chat/completions"


@pytest.fixture
async def house(workshop: Any) -> Any:
    outside, inside = await workshop.upstream(), await workshop.upstream()
    gateway = await workshop.gateway({
        "out": UpstreamConfig("openai", f"{outside.url}/v1", {"m": "m", "e": "e"}),
        "in": UpstreamConfig("local", f"{inside.url}/v1", {"own": "m"}),
    })  # fmt: skip
    keys = {}
    for company, masked in (("acme", True), ("globex", False)):
        await accounts.create_company(
            gateway.database, company, company, allow_external=True, mask_external=masked, actor="t"
        )
        keys[company] = await accounts.create_key(
            gateway.database, name=company, company_id=company, actor="t"
        )
    await gateway.runtime.refresh()
    return gateway, outside, inside, keys


def calling(workshop: Any) -> Any:
    """Repeat the question's marks, as text and inside a call, cut into small pieces."""

    async def behave(request: web.Request, body: Any) -> Any:
        said = body["messages"][-1]["content"]
        arguments = orjson.dumps({"to": said}).decode()
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
        if body.get("stream"):
            pieces = [delta(content=said[at : at + 3]) for at in range(0, len(said), 3)]
            begun = {**call, "index": 0, "function": {"name": "f", "arguments": ""}}
            pieces.append(delta(tool_calls=[begun]))
            pieces += [
                delta(tool_calls=[{"index": 0, "function": {"arguments": arguments[at : at + 4]}}])
                for at in range(0, len(arguments), 4)
            ]
            return await says(workshop, *pieces, delta(finish="tool_calls"), DONE)(request, body)
        message = {"role": "assistant", "content": said, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return web.json_response({"id": "c", "model": "m", "created": 1, "choices": [choice]})

    return behave


@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_personal_leaves_and_the_answer_is_as_if_it_had(
    workshop, house, stream
) -> None:
    gateway, outside, _, keys = house
    outside.behaviour = calling(workshop)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,4111111111111111"}}
    messages: list[Any] = [
        {"role": "system", "content": f"You serve {MAIL}"},
        {"role": "user", "content": [picture, {"type": "text", "text": MAIL}]},
        {"role": "user", "content": TEXT},
    ]
    async with gateway.sdk(keys["acme"]) as client:
        if stream:
            async with client.chat.completions.stream(model="m", messages=messages) as events:
                message = (await events.get_final_completion()).choices[0].message
        else:
            answer = await client.chat.completions.create(model="m", messages=messages)
            message = answer.choices[0].message
    assert message.content == TEXT
    assert orjson.loads(message.tool_calls[0].function.arguments) == {"to": TEXT}
    sent = orjson.dumps(outside.requests[-1][1]).decode()
    for secret in (MAIL, CARD, "bob@", "a\\\\b c"):
        assert secret not in sent
    assert sent.count("[email_1]") == 4 and "[email_2]" in sent and "[card_1]" in sent
    assert picture["image_url"]["url"] in sent


async def test_who_did_not_switch_it_on_and_what_stays_inside_are_not_masked(house) -> None:
    gateway, outside, inside, keys = house
    body = {"messages": [{"role": "user", "content": TEXT}]}
    for company, model, upstream in (("globex", "m", outside), ("acme", "own", inside)):
        sent = {"authorization": f"Bearer {keys[company]}"}
        assert (await gateway.post(CHAT, {**body, "model": model}, **sent))[0] == 200
        assert upstream.requests[-1][1]["messages"][-1]["content"] == TEXT
    body = {"model": "e", "input": [TEXT, "plain"]}
    await gateway.post("/v1/embeddings", body, authorization=f"Bearer {keys['acme']}")
    found = outside.requests[-1][1]["input"]
    assert MAIL not in found[0] and found[1] == "plain"


async def test_the_switch_is_the_companys(people) -> None:
    path, switch = "/api/companies/acme", {"mask_external": True}
    assert (await people.call("user", "PATCH", path, switch))[0] == 403
    assert (await people.call("company_admin", "PATCH", path, switch))[0] == 200
    rows = (await people.call("company_admin", "GET", "/api/companies"))[1]["companies"]
    assert [row["mask_external"] for row in rows] == [True]


@given(
    st.lists(st.sampled_from([MAIL, CARD, "[", "[email_", "[email_9]", "a", " ", "\n"])), st.data()
)
def test_a_stream_says_what_the_whole_answer_says(parts: list[str], data: Any) -> None:
    mask = Mask()
    hidden = mask.hide(" ".join(parts))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(hidden)), max_size=6)))
    bounds = [0, *cuts, len(hidden)]
    deltas = [hidden[a:b] for a, b in pairwise(bounds)]

    async def frames() -> Any:
        for piece in deltas:
            chunk = {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
            yield Frame(b"", chunk)
        yield Frame(b"", {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})

    async def told() -> str:
        chunks = [frame.chunk async for frame in mask.frames(frames())]
        return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)

    assert asyncio.run(told()) == mask.show(hidden) == " ".join(parts)
