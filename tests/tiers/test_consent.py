"""Content is kept with consent only, redacted, and the operational record never depends on it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select

from triptych.config.gateway import UpstreamConfig
from triptych.tiers.rules.redaction import classify, redact, redact_deep
from triptych.tiers.store import accounts, tables
from triptych.tiers.store.database import across
from triptych.tiers.store.personal_data import consents

ALL = across("a test looks at everything")
SECRETS = {
    "api_key": "sk-abcdefghij0123456789ABCD",
    "email": "ann.smith+x@mail.acme.example",
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF123",  # pragma: allowlist secret
    "ip": "192.168.12.34",
    "phone": "+49 171 1234567",
    "password": "password: hunter22!",
    "private_key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
}


async def contents(gateway: Any) -> list[dict[str, Any]]:
    await gateway.records()
    async with gateway.database.read(ALL) as connection:
        return await connection.all(select(tables.contents))


@pytest.fixture
async def gateway(workshop):
    started = await workshop.gateway(
        {"s": UpstreamConfig("scripted", "", {"base": "echo", "company": "echo"})}
    )
    await started.set(provider__scripted=True, real_ai_only=False, tier__company=True)
    for company in ("acme", "globex"):
        await accounts.create_company(started.database, company, company, actor="t")
    await accounts.create_user(started.database, "ann", companies=["acme"], actor="t")
    started.user_key = await accounts.create_key(
        started.database, name="ann", kind="user", user_id="ann", actor="t"
    )
    await started.runtime.refresh()
    return started


async def ask(gateway: Any, text: str = "hi", company: str | None = "acme", **more: Any) -> str:
    headers = {"authorization": f"Bearer {gateway.user_key}"}
    if company:
        headers["x-triptych-company"] = company
    status, _, got = await gateway.post(
        "/v1/chat/completions",
        {"model": "base", "messages": [{"role": "user", "content": text}], **more},
        **headers,
    )
    assert status == 200
    return got["x-request-id"]


async def test_f3_without_consent_the_record_is_there_and_no_content_is(gateway) -> None:
    await ask(gateway, "canary-word")
    (row,) = await gateway.records()
    assert (row["outcome"], row["consent"]) == ("ok", None)
    assert await contents(gateway) == []
    assert "canary-word" not in str(row)


@pytest.mark.parametrize("stream", [False, True])
async def test_f3_consent_counts_from_the_next_request_on_and_is_pinned(gateway, stream) -> None:
    grant = await consents.set_consent(
        gateway.database, "improve", True, company_id="acme", actor="t"
    )
    await gateway.runtime.refresh()
    request_id = await ask(gateway, "keep this", stream=stream)
    (kept,) = await contents(gateway)
    assert kept["request_id"] == request_id
    assert kept["messages"] == [{"role": "user", "content": "keep this"}]
    assert kept["answer"] == "keep this"
    assert kept["consent"] == f"improve:company:{grant}"
    await consents.set_consent(gateway.database, "improve", False, company_id="acme", actor="t")
    await gateway.runtime.refresh()
    await ask(gateway, "not this")
    assert len(await contents(gateway)) == 1


async def test_f3_a_user_who_refuses_is_left_out_of_the_companys_content(gateway) -> None:
    await consents.set_consent(gateway.database, "improve", True, company_id="acme", actor="t")
    await consents.set_consent(gateway.database, "improve", False, user_id="ann", actor="ann")
    await gateway.runtime.refresh()
    await ask(gateway)
    assert await contents(gateway) == []
    await consents.set_consent(gateway.database, "improve", True, user_id="ann", actor="ann")
    await gateway.runtime.refresh()
    await ask(gateway)
    (kept,) = await contents(gateway)
    assert kept["consent"].startswith("improve:company:")
    assert "+user:" in kept["consent"]


async def test_f3_the_flag_stops_keeping_whatever_was_consented(gateway) -> None:
    await consents.set_consent(gateway.database, "improve", True, company_id="acme", actor="t")
    await gateway.set(log__content=False)
    await ask(gateway)
    assert await contents(gateway) == []


async def test_f3_who_withdraws_from_service_is_not_served(gateway) -> None:
    await consents.set_consent(gateway.database, "serve", False, user_id="ann", actor="ann")
    await gateway.runtime.refresh()
    status, answer, _ = await gateway.post(
        "/api/query", {"input": "hi"}, authorization=f"Bearer {gateway.user_key}"
    )
    assert (status, answer["error"]["code"]) == (403, "consent_withdrawn")


async def test_f3_consent_over_http_is_a_history_of_ones_own(gateway) -> None:
    me = {"authorization": f"Bearer {gateway.user_key}"}
    import aiohttp

    async with aiohttp.ClientSession(headers=me) as session:
        url = gateway.url + "/api/consent"
        for granted in (True, False):
            body = {"purpose": "improve", "granted": granted}
            async with session.put(url, json=body) as response:
                assert response.status == 200
        async with session.put(url, json={**body, "company_id": "acme"}) as response:
            assert response.status == 403, "a company's word is its admin's"
        async with session.get(url) as response:
            told = await response.json()
    assert [row["granted"] for row in told["history"]] == [False, True]
    assert told["defaults"] == {"serve": True, "improve": False, "abstraction": False}


async def test_f3_kept_texts_hold_no_secret(gateway) -> None:
    await consents.set_consent(gateway.database, "improve", True, company_id="acme", actor="t")
    await gateway.runtime.refresh()
    await ask(gateway, " and ".join(SECRETS.values()))
    (kept,) = await contents(gateway)
    whole = json.dumps(kept)
    assert not [name for name, secret in SECRETS.items() if secret.split("\n")[0] in whole]
    for name in SECRETS:
        assert f"[{name}]" in kept["answer"]


# -- F4: what is personal ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "harmless",
    [
        {"tokens_used": {"prompt": 12, "completion": 40, "total": 52}},
        {"description": "a short description of the ip strategy", "model_name": "base"},
        {"tokenizer": "bpe", "max_tokens": 100, "recipe": "soup"},
        "version 4 of the token economy costs 1234567 euro since 2026-11-21",
        "call the function with id 12345678",
    ],
)
def test_f4_what_only_sounds_personal_is_not(harmless) -> None:
    assert classify(harmless) == "non_personal"
    assert redact_deep(harmless) == harmless


@pytest.mark.parametrize(("name", "secret"), SECRETS.items())
def test_f4_what_is_personal_or_secret_is_found(name, secret) -> None:
    assert redact(f"before {secret} after") == f"before [{name}] after"
    assert classify({"text": [secret]}) in ("personal", "sensitive")


def test_f4_a_field_that_is_secret_by_name_is_taken_out_whole() -> None:
    assert redact_deep({"api_key": "abc", "authToken": "x", "auth_token": "y", "n": 1}) == {
        "api_key": "[secret]", "authToken": "[secret]", "auth_token": "[secret]", "n": 1,
    }  # fmt: skip
    assert classify({"password": "abc"}) == "sensitive"


def test_f4_a_number_that_only_looks_like_a_card_stays() -> None:
    assert redact("order 4111 1111 1111 1112") != "order [card]"


def test_f4_recall_and_precision_on_labelled_sentences(shared_data) -> None:
    rows = json.loads((shared_data / "pii-sentences.json").read_text())
    found: Counter[str] = Counter()
    total: Counter[str] = Counter()
    false = sum(redact(row["masked"]) != row["masked"] for row in rows)
    for row in rows:
        text = redact(row["full_text"])
        for span in row["spans"]:
            total[span["entity_type"]] += 1
            found[span["entity_type"]] += span["entity_value"] not in text
    recall = {kind: found[kind] / total[kind] for kind in total}
    floor = {
        "EMAIL_ADDRESS": 1.0, "CREDIT_CARD": 0.99, "IP_ADDRESS": 1.0, "US_SSN": 1.0,
        "IBAN_CODE": 0.99, "PHONE_NUMBER": 0.85,
    }  # fmt: skip
    assert {k: recall[k] for k in floor if recall[k] < floor[k]} == {}
    assert false / len(rows) <= 0.01
