"""The routes: who may call which, what they do, and that their description is true."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import aiohttp
import orjson
import pytest
from jsonschema import Draft202012Validator
from people import People

from triptych.config.gateway import UpstreamConfig
from triptych.tiers.admin.table import TABLE
from triptych.tiers.store.personal_data import consents

KEYS = ("none", "bad", "revoked", "expired", "user", "company_admin", "admin")
RANK = {"user": 0, "company_admin": 1, "admin": 2}


#: Routes that ask for more than a role, or that end the key they are called with.
_MORE_THAN_A_ROLE = ("/companies/", "/session", "/content")


async def test_i1_every_route_answers_only_to_the_role_it_names(people) -> None:
    wrong = []
    for route in sorted(TABLE, key=lambda route: route.path == "/api/session"):
        path = re.sub(r"\{\w+:int\}", "1", route.path)
        path = re.sub(r"\{\w+\}", "thing", path)
        for who in KEYS:
            status, _ = await people.call(who, route.method, path, {} if route.body else None)
            if route.need == "anyone":
                good = status != 403 and (status != 401 or path.endswith("/session"))
            elif who in ("none", "bad", "revoked", "expired"):
                good = status == 401
            elif RANK[who] < RANK[route.need]:
                good = status == 403
            else:
                good = status not in (401, 403) or any(x in path for x in _MORE_THAN_A_ROLE)
            if not good or status >= 500:
                wrong.append(f"{route.method} {path} as {who}: {status}")
    assert not wrong, "\n".join(wrong)


async def test_every_route_of_the_application_is_in_the_table(people) -> None:
    app = people.gateway.app
    declared = {(route.method, route.path) for route in TABLE}
    served = {(next(iter(r.methods - {"HEAD"})), r.path) for r in app._rest.routes}
    assert served | set(app._hot) == declared


async def test_the_openapi_description_is_valid_and_complete(people) -> None:
    status, described = await people.call("none", "GET", "/openapi.json")
    assert status == 200
    operations = [
        (method.upper(), path) for path, item in described["paths"].items() for method in item
    ]
    assert len(operations) == len(TABLE)
    for schema in described["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    unresolved = [
        name
        for name in re.findall(r'"#/components/schemas/(\w+)"', orjson.dumps(described).decode())
        if name not in described["components"]["schemas"]
    ]
    assert not unresolved


async def test_an_unknown_path_or_method_is_said_to_be_so(people) -> None:
    assert (await people.call("admin", "GET", "/nowhere"))[0] == 404
    assert (await people.call("admin", "DELETE", "/admin/flags"))[0] == 405
    assert (await people.call("none", "GET", "/v1/../admin/flags"))[0] in (401, 404)


# -- flags over HTTP -----------------------------------------------------------------------------


async def test_flags_are_set_rolled_out_overridden_and_reverted_over_http(people) -> None:
    status, answer = await people.call("admin", "PUT", "/admin/flags/cache", {"value": False})
    assert (status, answer["version"]) == (200, 1)
    body = {"value": True, "expected_version": 0}
    status, answer = await people.call("admin", "PUT", "/admin/flags/cache", body)
    assert (status, answer["error"]["code"]) == (409, "edit_conflict")
    assert (await people.call("admin", "PUT", "/admin/flags/nope", {"value": True}))[0] == 404
    assert (await people.call("admin", "PUT", "/admin/flags/cache", {"value": "maybe"}))[0] == 422
    path = "/admin/flags/tier.abstraction/rollout"
    assert (await people.call("admin", "PUT", path, {"percentage": 100}))[0] == 200
    path = "/admin/flags/tier.abstraction/overrides/user/ann"
    assert (await people.call("admin", "PUT", path, {"value": False}))[0] == 200
    ask = {"context": {"targetingKey": "bob"}}
    path = "/ofrep/v1/evaluate/flags/tier.abstraction"
    assert (await people.call("user", "POST", path, ask))[0] == 403, "it is not bob's key"
    _, answer = await people.call("service", "POST", path, ask)
    assert (answer["value"], answer["variant"]) == (True, "on")
    _, answer = await people.call("user", "POST", path, {"context": {"targetingKey": "ann"}})
    assert (answer["value"], answer["reason"]) == (False, "TARGETING_MATCH")
    status, answer = await people.call("user", "POST", "/ofrep/v1/evaluate/flags/nope", ask)
    assert (status, answer["errorCode"]) == (404, "FLAG_NOT_FOUND")
    status, answer = await people.call("service", "POST", "/ofrep/v1/evaluate/flags", ask)
    assert {flag["key"] for flag in answer["flags"]} >= {"provider", "tier.base"}
    tag = f'"{people.gateway.runtime.flags.version}"'
    status, _ = await people.call(
        "service", "POST", "/ofrep/v1/evaluate/flags", ask, if_none_match=tag
    )
    assert status == 304
    _, log = await people.call("admin", "GET", "/admin/audit?subject=flags/cache")
    entry = log["entries"][0]
    assert entry["before"]["cache"]["defaultVariant"] == "on"
    assert entry["after"]["cache"]["defaultVariant"] == "off"
    path = f"/admin/flags/revert/{entry['sequence']}"
    assert (await people.call("admin", "POST", path))[0] == 200
    assert people.gateway.runtime.flags.resolve("x")["cache"] is True
    _, verified = await people.call("admin", "POST", "/admin/audit/verify")
    assert verified["broken_at"] is None


# -- the record ----------------------------------------------------------------------------------


async def test_requests_are_paged_filtered_and_shown_as_a_waterfall(people) -> None:
    for n in range(7):
        model = "company" if n % 2 else "base"
        status, _ = await people.call(
            "user", "POST", "/v1/chat/completions",
            {"model": model, "messages": [{"role": "user", "content": f"q{n}"}]},
        )  # fmt: skip
        assert status == 200
    await people.gateway.records()
    seen: list[str] = []
    path = "/api/requests?limit=3"
    while path:
        _, page = await people.call("admin", "GET", path)
        seen += [row["request_id"] for row in page["requests"]]
        path = f"/api/requests?limit=3&after={page['next']}" if page["next"] else ""
    assert len(seen) == len(set(seen)) == 7
    _, page = await people.call("admin", "GET", "/api/requests?tier_served=company")
    assert len(page["requests"]) == 3
    _, page = await people.call("company_admin", "GET", "/api/requests")
    assert {row["company_id"] for row in page["requests"]} == {"acme"}
    _, shown = await people.call("admin", "GET", f"/api/requests/{seen[0]}")
    assert [t["outcome"] for t in shown["tries"]] == ["ok"]
    _, usage = await people.call("admin", "GET", "/api/usage?group_by=tier_served")
    assert {row["tier_served"]: row["requests"] for row in usage["rows"]} == {
        "base": 4,
        "company": 3,
    }
    _, usage = await people.call("admin", "GET", "/api/usage?bucket_s=60")
    assert sum(row["requests"] for row in usage["rows"]) == 7
    for bad in ("limit=0", "limit=x", "after=x", "since=x", "since=-1"):
        assert (await people.call("admin", "GET", f"/api/requests?{bad}"))[0] == 422
    for bad in ("group_by=x", "bucket_s=1&since=0", "bucket_s=x"):
        assert (await people.call("admin", "GET", f"/api/usage?{bad}"))[0] == 422


# -- feedback (G1, and check 16) -----------------------------------------------------------------


async def ask(people: People, who: str = "user", **headers: str) -> str:
    sent = {"authorization": f"Bearer {people.keys[who]}"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    async with (
        aiohttp.ClientSession(headers=sent) as session,
        session.post(
            people.gateway.url + "/v1/chat/completions",
            json={"model": "base", "messages": [{"role": "user", "content": "hi"}]},
        ) as response,
    ):
        assert response.status == 200
        return response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("rating", 5, 6),
        ("thumb", True, 1),
        ("correction", "better", ""),
        ("comment", "nice", None),
        ("preference", {"chosen": "a", "rejected": "b"}, {"chosen": "a"}),
        ("automatic", {"copied": True}, "x"),
    ],
)
async def test_g1_every_kind_of_feedback_is_accepted_and_checked(people, kind, good, bad) -> None:
    request_id = await ask(people)
    body = {"kind": kind, "value": good, "request_id": request_id}
    status, first = await people.call("user", "POST", "/api/feedback", body)
    assert (status, first["version"]) == (200, 1), "also at once, before the record was stored"
    status, again = await people.call("user", "POST", "/api/feedback", body)
    assert again == first, "the same again changes nothing"
    status, _ = await people.call("user", "POST", "/api/feedback", body | {"value": bad})
    assert status == 422
    _, listed = await people.call("admin", "GET", f"/api/feedback?kind={kind}")
    (row,) = listed["feedback"]
    assert (row["value"], row["model"], row["revision"]) == (good, "echo", "scripted")


async def test_g1_only_the_author_or_an_admin_changes_a_feedback_and_versions_are_kept(
    people,
) -> None:
    request_id = await ask(people, "service", x_triptych_user="ann", x_triptych_company="acme")
    body = {"kind": "rating", "value": 4, "request_id": request_id, "feedback_id": "mine"}
    assert (await people.call("user", "POST", "/api/feedback", body))[0] == 200
    changed = body | {"value": 2}
    status, answer = await people.call("service", "POST", "/api/feedback", changed)
    assert (status, answer["error"]["code"]) == (403, "not_the_author")
    status, answer = await people.call("user", "POST", "/api/feedback", changed)
    assert (status, answer["version"]) == (200, 2)
    status, answer = await people.call("company_admin", "POST", "/api/feedback", body)
    assert (status, answer["version"]) == (200, 3)
    _, listed = await people.call("admin", "GET", "/api/feedback")
    (row,) = listed["feedback"]
    assert (row["value"], row["version"], row["label"]) == (4, 3, "positive")


async def test_g1_another_companys_request_does_not_exist(people) -> None:
    request_id = await ask(people)
    body = {"kind": "thumb", "value": True, "request_id": request_id}
    status, answer = await people.call("foreign", "POST", "/api/feedback", body)
    assert (status, answer["error"]["code"]) == (404, "request_not_found")
    unknown = body | {"request_id": "req_unknown"}
    assert (await people.call("user", "POST", "/api/feedback", unknown))[0] == 404
    both = body | {"conversation_id": "c"}
    assert (await people.call("user", "POST", "/api/feedback", both))[0] == 422


async def test_g2_export_gives_pairs_with_provenance_and_only_what_was_consented(people) -> None:
    gateway = people.gateway
    kept = await ask(people, "service", x_triptych_company="acme")
    bare = await ask(people, "service", x_triptych_company="acme")
    await gateway.records()
    content = {
        "request_id": kept,
        "company_id": "acme",
        "user_id": None,
        "created_at": 1.0,
        "messages": [{"role": "user", "content": "hi"}],
        "answer": "wrong",
        "consent": "improve:1",
    }
    from triptych.tiers.store import tables
    from triptych.tiers.store.database import company

    async with gateway.database.write(company("acme")) as connection:
        await connection.execute(tables.contents.insert(), content)
    await consents.set_consent(gateway.database, "improve", True, company_id="acme", actor="t")
    await gateway.runtime.refresh()
    for request_id in (kept, bare):
        for body in (
            {"kind": "correction", "value": "right"},
            {"kind": "automatic", "value": {"copied": True}},
        ):
            status, _ = await people.call(
                "service", "POST", "/api/feedback", {**body, "request_id": request_id}
            )
            assert status == 200
    status, raw = await people.call("company_admin", "GET", "/api/feedback/export")
    lines = [raw] if isinstance(raw, dict) else [orjson.loads(x) for x in raw.splitlines()]
    (example,) = lines
    assert example["chosen"] == "right"
    assert example["rejected"] == "wrong"
    assert example["provenance"]["request_id"] == kept
    assert example["provenance"]["revision"] == "scripted"
    assert example["provenance"]["consent"] == "improve:1"
    await consents.set_consent(gateway.database, "improve", False, company_id="acme", actor="t")
    await gateway.runtime.refresh()
    status, raw = await people.call("company_admin", "GET", "/api/feedback/export")
    assert (status, raw) == (200, b""), "withdrawn since: nothing is given out any more"


# -- upstreams, prompts, models, generation ------------------------------------------------------


async def test_c10_a_connection_is_tested_with_a_real_request_and_flips_nothing(
    people, workshop
) -> None:
    good, bad = await workshop.upstream("Success"), await workshop.upstream()
    gateway = await workshop.gateway(
        {
            "good": UpstreamConfig("hf_spaces", good.url, {"base": ""}),
            "bad": UpstreamConfig("openai", "http://127.0.0.1:9/v1", {"company": "m"}),
        }
    )
    other = People(gateway)
    other.keys["admin"] = gateway.key
    before = await gateway.records()
    flags_version = gateway.runtime.flags.version
    status, probe = await other.call("admin", "POST", "/admin/upstreams/good/test")
    assert (status, probe["ok"], probe["dialect"], probe["revision"]) == (
        200, True, "v1", "sha-fake",
    )  # fmt: skip
    assert probe["tiers"] == ["base"]
    assert probe["latency_s"] > 0
    status, probe = await other.call("admin", "POST", "/admin/upstreams/bad/test")
    assert (status, probe["ok"], probe["error_code"]) == (200, False, "upstream_unreachable")
    assert (await other.call("admin", "POST", "/admin/upstreams/nope/test"))[0] == 404
    assert await gateway.records() == before
    assert gateway.runtime.flags.version == flags_version
    assert bad.calls == 0


async def test_i3_an_upstream_entered_by_an_admin_serves_the_next_request_and_survives(
    workshop,
) -> None:
    upstream = await workshop.upstream("entered")
    gateway = await workshop.gateway({}, allow_private_addresses=True)
    people = People(gateway)
    people.keys["admin"] = gateway.key
    body = {"provider": "openai", "address": f" {upstream.url}/v1 ", "models": {"base": "m"}}
    status, answer = await people.call("admin", "PUT", "/admin/upstreams/mine", body)
    assert (status, answer["version"]) == (200, 1)
    for running in (gateway, await workshop.gateway({}, allow_private_addresses=True)):
        status, answer, _ = await running.post("/api/query", {"input": "hi"})
        assert (status, answer["content"]) == (200, "entered")
    status, answer = await people.call(
        "admin", "PUT", "/admin/upstreams/mine", body | {"expected_version": 7}
    )
    assert status == 409
    assert (await people.call("admin", "DELETE", "/admin/upstreams/mine"))[0] == 200
    assert (await gateway.post("/api/query", {"input": "hi"}))[0] == 503


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1/v1", "https://10.0.0.1/v1", "https://u:p@x.example/v1", "nonsense", ""],
)
async def test_c1_an_address_that_reaches_inside_is_not_entered(people, address) -> None:
    body = {"provider": "openai", "address": address}
    status, _ = await people.call("admin", "PUT", "/admin/upstreams/evil", body)
    assert status == 422


async def test_prompts_are_versioned_and_used_by_the_next_request(workshop) -> None:
    upstream = await workshop.upstream()
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("local", f"{upstream.url}/v1", {"base": "m"})}
    )
    people = People(gateway)
    people.keys["admin"] = gateway.key

    async def system() -> str | None:
        await gateway.post("/api/query", {"input": "hi"})
        first = upstream.requests[-1][1]["messages"][0]
        return first["content"] if first["role"] == "system" else None

    for text in ("Be brief.", "Be kind."):
        assert (await people.call("admin", "POST", "/admin/prompts/base", {"text": text}))[0] == 200
        assert await system() == text
    assert (await people.call("admin", "PUT", "/admin/prompts/base/active/1"))[0] == 200
    assert await system() == "Be brief."
    assert (await people.call("admin", "PUT", "/admin/prompts/base/active/0"))[0] == 200
    assert await system() is None
    assert (await people.call("admin", "PUT", "/admin/prompts/base/active/9"))[0] == 404
    assert (await people.call("admin", "POST", "/admin/prompts/nope", {"text": "x"}))[0] == 404
    _, listed = await people.call("admin", "GET", "/admin/prompts")
    assert [row["version"] for row in listed["prompts"]] == [1, 2]


async def test_models_are_registered_with_lineage_and_seen_by_their_company_only(people) -> None:
    for company in (None, "acme", "globex"):
        body = {
            "name": "acme/base", "tier": "base", "company_id": company, "revision": "a" * 40,
            "hf_model_id": "acme/base", "dataset_hash": "d" * 64, "evaluation": {"val/bpb": 1.5},
        }  # fmt: skip
        assert (await people.call("admin", "POST", "/admin/models", body))[0] == 200
    _, listed = await people.call("company_admin", "GET", "/api/models")
    assert [row["company_id"] for row in listed["models"]] == ["acme"]
    assert listed["models"][0]["evaluation"] == {"val/bpb": 1.5}
    status, _ = await people.call("company_admin", "GET", "/api/models?company_id=globex")
    assert status == 403


async def test_structure_and_variations_over_http(workshop) -> None:
    gateway = await workshop.gateway(
        {"s": UpstreamConfig("scripted", "", {"base": "echo", "abstraction": "say-no-json"})}
    )
    await gateway.set(provider__scripted=True, real_ai_only=False, tier__abstraction=True)
    body = {"prompt": '{"a": 1}', "json_schema": {"type": "object", "required": ["a"]}}
    status, answer, _ = await gateway.post("/api/structure", body)
    assert (status, answer["value"]) == (200, {"a": 1})
    status, answer, _ = await gateway.post("/api/structure", body | {"use_abstraction": True})
    assert (status, answer["error"]["code"]) == (502, "structure_invalid")
    status, answer, _ = await gateway.post("/api/variations", {"prompt": "x", "n": 3})
    assert (status, answer["duplicates"], len(answer["variations"])) == (200, 2, 1)
    assert (await gateway.post("/api/variations", {"prompt": "x", "n": 99}))[0] == 422
    assert (await gateway.post("/v1/embeddings", {"input": "x"}))[0] == 503


async def test_embeddings_are_passed_through(workshop) -> None:
    upstream = await workshop.upstream()

    async def embed(request: Any, body: Any) -> Any:
        from aiohttp import web

        usage = {"prompt_tokens": 7, "total_tokens": 7}
        told = {"object": "list", "data": [], "asked": body["model"], "usage": usage}
        return web.json_response(told)

    upstream.behaviour = embed
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("openai", f"{upstream.url}/v1", {"embedder": "real-name"})}
    )
    status, answer, _ = await gateway.post("/v1/embeddings", {"model": "embedder", "input": "x"})
    assert (status, answer["asked"]) == (200, "real-name")
    assert upstream.requests[-1][0] == "/v1/embeddings"
    status, answer, _ = await gateway.post("/v1/embeddings", {"model": "nobody", "input": "x"})
    assert (status, answer["error"]["code"]) == (503, "no_provider_available")
    first, second = await gateway.records()
    assert (first["kind"], first["outcome"], first["input_tokens"]) == ("embeddings", "ok", 7)
    assert (first["upstream"], first["attempts"]) == ("u", 1)
    assert (second["outcome"], second["status"]) == ("failed", 503)


# -- keys over HTTP ------------------------------------------------------------------------------


async def test_i1_a_key_is_shown_once_revoked_within_a_second_and_never_widened(people) -> None:
    status, made = await people.call(
        "company_admin", "POST", "/api/keys", {"name": "app", "role": "user"}
    )
    assert status == 200
    people.keys["new"] = made["key"]
    assert (await people.call("new", "GET", "/api/me"))[1]["companies"] == ["acme"]
    _, listed = await people.call("company_admin", "GET", "/api/keys")
    assert made["key"] not in str(listed)
    assert {row["company_id"] for row in listed["keys"]} == {"acme"}
    key_id = next(row["key_id"] for row in listed["keys"] if row["name"] == "app")
    assert (await people.call("company_admin", "DELETE", f"/api/keys/{key_id}"))[0] == 200
    assert (await people.call("new", "GET", "/api/me"))[0] == 401, "at once, by its own worker"
    for body, code in (
        ({"name": "x", "role": "admin"}, "scope_escalation"),
        ({"name": "x", "company_id": "globex"}, "not_a_member"),
    ):
        status, answer = await people.call("company_admin", "POST", "/api/keys", body)
        assert (status, answer["error"]["code"]) == (403, code)
    _, all_keys = await people.call("admin", "GET", "/api/keys")
    admins = next(row["key_id"] for row in all_keys["keys"] if row["name"] == "admin")
    assert (await people.call("company_admin", "DELETE", f"/api/keys/{admins}"))[0] == 404


@pytest.mark.prove
async def test_whatever_schemathesis_sends_nothing_fails_inside(people, caplog) -> None:
    import sys

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "run", f"{people.gateway.url}/openapi.json",
        "-H", f"Authorization: Bearer {people.keys['admin']}", "--checks", "not_a_server_error",
        "-n", "40", "--phases", "coverage,fuzzing",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert b"Tested:" in output, output.decode()[-2000:]
    failed = [r for r in caplog.records if "failed inside" in r.message or r.exc_info]
    assert not failed, failed[0].getMessage()
    assert b"500 Internal Server Error" not in output


async def test_a_change_of_flags_is_foreseen_with_the_last_hours_requests(people) -> None:
    gateway = people.gateway
    await gateway.set(fallback=False)
    for n in range(10):
        tier = "company" if n < 4 else "base"
        await ask(people, "service", x_triptych_company="acme", x_triptych_tier=tier)
    await gateway.records()

    async def foresee(**changes: Any) -> Any:
        body = {"changes": {k.replace("__", "."): v for k, v in changes.items()}}
        status, told = await people.call("admin", "POST", "/admin/flags/preview", body)
        assert status == 200, told
        return told

    told = await foresee(tier__company={"value": False})
    assert (told["requests"], told["elsewhere"], told["elsewhere_frac"]) == (10, 4, 0.4)
    assert told["moves"] == [
        {"from": "company at script", "to": "base at script", "requests": 4}
    ]  # fmt: skip
    told = await foresee(provider__scripted={"value": False})
    assert (told["elsewhere"], told["refused"]) == (10, 10)
    assert (await foresee(cache={"value": False}))["elsewhere"] == 0
    told = await foresee(tier__company={"percentage": 0.0, "by": "company"})
    assert told["elsewhere"] == 4
    assert (await people.call("admin", "POST", "/admin/flags/preview", {"changes": {}}))[0] == 422
    nonsense = {"changes": {"nope": {"value": True}}}
    assert (await people.call("admin", "POST", "/admin/flags/preview", nonsense))[0] == 404
    assert gateway.runtime.flags.resolve("u")["tier.company"] is True, "it changes nothing"


async def test_an_openfeature_client_of_another_program_reads_the_flags(people) -> None:
    from openfeature.contrib.provider.ofrep import OFREPProvider
    from openfeature.evaluation_context import EvaluationContext

    await people.gateway.set(provider="scripted", tier__abstraction=False)
    headers = {"authorization": f"Bearer {people.keys['user']}"}
    theirs = OFREPProvider(people.gateway.url, headers_factory=lambda: headers)
    ann = EvaluationContext("ann", {"company_id": "acme"})

    def read() -> list[Any]:
        return [
            theirs.resolve_string_details("provider", "auto", ann).value,
            theirs.resolve_boolean_details("tier.company", False, ann).value,
            theirs.resolve_boolean_details("tier.abstraction", True, ann).value,
        ]

    assert await asyncio.to_thread(read) == ["scripted", True, False]


async def test_i1_a_key_for_one_thing_does_no_other_and_none_gives_itself_more(people) -> None:
    async def made(who: str, **more: Any) -> tuple[int, Any]:
        body = {"name": "k", "company_id": "acme", **more}
        return await people.call(who, "POST", "/api/keys", body)

    tries = {
        "generate": ("POST", "/api/query", {"input": "hi"}),
        "feedback": ("POST", "/api/feedback", {"kind": "thumb", "value": True, "request_id": "x"}),
        "flags": ("POST", "/ofrep/v1/evaluate/flags", {"context": {}}),
        "read": ("GET", "/api/me", None),
        "manage": ("PUT", "/api/consent", {"purpose": "improve", "granted": False}),
    }
    for scope in tries:
        _, told = await made("admin", scopes=[scope])
        people.keys[scope] = told["key"]
        for other, (method, path, body) in tries.items():
            _, answer = await people.call(scope, method, path, body)
            missing = (answer or {}).get("error", {}).get("code") == "scope_missing"
            assert missing is (other != scope), (scope, other, answer)
    status, answer = await made("company_admin", scopes=["content"])
    assert (status, answer["error"]["code"]) == (403, "scope_escalation")
    assert (await made("admin", scopes=["everything"]))[0] == 422
    _, told = await made("admin", role="company_admin", scopes=["content"])
    people.keys["officer"] = told["key"]
    assert (await made("officer", scopes=["content"]))[0] == 200
    status, answer = await people.call("officer", "POST", "/api/query", {"input": "hi"})
    assert status == 200, "content alone limits nothing"
