"""`triptych company`: from a folder to a cited answer at the gateway, and back to nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from triptych.cli.main import main
from triptych.cli.serve.knowledge import NAME
from triptych.config.gateway import GatewayConfig
from triptych.errors import Forbidden
from triptych.tiers.pipeline.runtime import Runtime
from triptych.tiers.pipeline.service import LLMService
from triptych.tiers.rules.query import Answer, QueryContext
from triptych.tiers.store import accounts
from triptych.tiers.store.personal_data import privacy
from triptych.tiers.store.personal_data.personal import Subject
from triptych.tiers.workers import sources_of

QUESTION = "How many days of paid leave do employees have?"


@pytest.fixture
def folder(own_home: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "leave.md").write_text("# Leave\n\nEmployees have 25 days of paid leave a year.\n")
    (folder / "pay.md").write_text("# Pay\n\nSalaries are paid on the 27th.\n")
    return folder


def test_members_ask_the_gateway_and_get_a_citation_that_opens_the_words(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["company", "add", "acme", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "2 new" in said
    assert "created at the gateway" in said

    async def ask() -> tuple[Answer, Answer, Any]:
        runtime = Runtime(GatewayConfig(), sources=sources_of(NAME))
        await runtime.open()
        try:
            service = LLMService(runtime)
            for user, company in (("ann", "acme"), ("gus", "globex")):
                if company != "acme":
                    await accounts.create_company(runtime.database, company, company, actor="t")
                await accounts.create_user(runtime.database, user, companies=[company], actor="t")
            keys = {
                user: await accounts.create_key(
                    runtime.database, name=user, kind="user", role="user", user_id=user, actor="t"
                )
                for user in ("ann", "gus")
            }
            await runtime.refresh()
            ann = runtime.keys.authenticate(f"Bearer {keys['ann']}")
            gus = runtime.keys.authenticate(f"Bearer {keys['gus']}")
            context = QueryContext("ann", "acme", use_company_model=True)
            answered = await service.query(QUESTION, context, ann)
            refused = await service.query("Who won the world cup of football?", context, ann)
            with pytest.raises(Forbidden):
                await service.query(QUESTION, QueryContext("gus", "acme", True), gus)
            url = answered.citations[0]["url"]
            source: Any = runtime.sources["company"]
            text = await source.document(url.split("/")[-1].split("?")[0], "acme", "ann")
            return answered, refused, text
        finally:
            await runtime.close()

    answered, refused, text = asyncio.run(ask())
    # There is no upstream here at all: the words are those of the document.
    assert "25 days" in answered.content
    assert (answered.tier_served, answered.provider, answered.model) == ("company", "", "documents")
    (citation,) = answered.citations
    assert text.text[citation["start"] : citation["end"]] == citation["text"]
    assert refused.evidence is not None
    assert refused.evidence["refused"] == "nothing_found"


def test_every_verb_says_what_it_did(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str, code: int = 0) -> str:
        assert main(["company", *words]) == code
        return capsys.readouterr().out

    said("add", "acme", str(folder))
    assert "25 days" in said("ask", "acme", QUESTION)
    assert "leave.md" in said("ask", "acme", QUESTION)
    assert json.loads(said("ask", "acme", QUESTION, "--json"))["citations"]
    assert "handbook/pay.md" in said("list", "acme")
    assert json.loads(said("list", "--json"))[0]["documents"] == 2
    (folder / "pay.md").unlink()
    # Without a terminal nothing is applied that was not agreed to.
    assert "- pay.md" in said("sync", "acme")
    assert "handbook/pay.md" in said("list", "acme")
    said("sync", "acme", "--yes")
    assert "handbook/pay.md" not in said("list", "acme")
    asked = folder.parent / "questions.jsonl"
    asked.write_text(
        json.dumps({"question": QUESTION, "document": "leave.md", "words": ["25"]}) + "\n"
    )
    assert QUESTION in said("questions", "acme", str(asked))
    assert "recall 5" in said("evaluate", "acme")
    assert "hr" in said("member", "acme", "ann", "hr")
    said("forget", "acme", code=1)
    said("forget", "acme", "handbook/leave.md", "--yes")
    said("forget", "acme", "--yes")
    assert "nothing yet" in said("list")
    assert main(["company", "ask", "acme", QUESTION]) == 1


def test_an_erased_company_and_an_erased_member_leave_no_byte_in_the_documents_stores(
    folder: Path, own_home: Path
) -> None:
    main(["company", "add", "acme", str(folder)])
    main(["company", "add", "globex", str(folder)])
    for company in ("acme", "globex"):
        main(["company", "member", company, "zebulon-user", "hr"])

    async def erase() -> dict[str, Any]:
        runtime = Runtime(
            GatewayConfig(poll_interval_s=0.05, flush_interval_s=0.05), sources=sources_of(NAME)
        )
        await runtime.open()
        try:
            for subject in (Subject("acme", None), Subject(None, "zebulon-user")):
                await privacy.ask(runtime.database, "erasure", subject, {}, actor="t")
                while await runtime.background.work_once():
                    pass
            return {"left": sorted(path.name for path in (own_home / "companies").iterdir())}
        finally:
            await runtime.close()

    assert asyncio.run(erase())["left"] == ["globex"]
    stored = b"".join(
        path.read_bytes() for path in (own_home / "companies").rglob("*") if path.is_file()
    )
    assert b"zebulon-user" not in stored
    assert b"25 days" in stored
