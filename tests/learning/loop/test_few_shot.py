"""Eight corrections become a prompt that passes the gate like any candidate, and one that does not.

The upstream reads the examples in its prompt; nothing else differs between the two models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from example_reader import ExampleReader
from loop_process import Loop

CONFIG = """
[gateway]
port = 0
allow_private_addresses = true
flush_interval_s = 0.05
poll_interval_s = 0.05
[gateway.upstreams.served]
provider = "local"
address = "{url}/v1"
models = {{ base = "m" }}
"""
TOPICS = ["leave", "salary", "travel", "laptop", "badge", "pension", "sickness", "training"]


@pytest.fixture
def loop(own_home: Path) -> Iterator[Loop]:
    reader = ExampleReader()
    made = Loop(own_home, config=CONFIG.format(url=reader.url))
    yield made
    made.gateway.kill()
    reader.close()


def measured(loop: Loop, folder: Path, name: str, model: str) -> str:
    cases = [
        {"id": f"{topic}-{at}", "slice": "handbook", "reference": f"rule {topic}",
         "prompt": f"please tell me {'really ' * at}what holds for {topic} in this company"}
        for topic in TOPICS for at in range(4)
    ]  # fmt: skip
    (folder / "cases.json").write_text(json.dumps(cases))
    out = folder / f"{name}.json"
    loop.learn(
        "measure", str(folder / "plan.json"), str(folder / "cases.json"), str(out), "--model",
        model, "--general-bpb", "1.1",
    )  # fmt: skip
    return str(out)


def test_corrections_below_the_minimum_become_a_prompt_that_the_gate_measures(
    loop: Loop, tmp_path: Path
) -> None:
    asked = [f"what holds for {topic} in this company" for topic in TOPICS]
    loop.corrections(asked, [f"see rule {topic}" for topic in TOPICS])
    made = loop.learn("dataset", "--user-share", "1")
    assert made["missing_rows"] == 200 - made["train"]
    skipped = loop.learn("train", "--base", "anything", code=1)
    assert "at least 10" in skipped["reason"]

    plan = tmp_path / "plan.json"
    limits = ["--limit", "minimum_cases=20", "--limit", "latency_ratio=1000"]
    loop.learn("plan", str(plan), "--target", "handbook", *limits)
    prompt = loop.learn("prompt")
    assert prompt["upstream"] == "served-challenger"
    before = measured(loop, tmp_path, "before", "base")
    after = measured(loop, tmp_path, "after", "base.challenger")
    cases = str(tmp_path / "cases.json")
    verdict = loop.learn("gate", str(plan), cases, before, after)
    assert verdict["outcome"] == "better"
    # What is served against itself: no gain is shown, and how many cases are missing for one.
    verdict = loop.learn("gate", str(plan), cases, before, before, code=4)
    assert verdict["needs_cases"] > 0

    # Only what the gate called better meets users, unless a person says otherwise.
    assert "did not say better" in loop.learn("start", "served", "served-challenger", code=1)
    loop.learn("start", "--ungated", "served", "served-challenger")
    status: dict[str, Any] = loop.learn("status")
    assert status["traffic_agrees"]
    assert [step["name"] for step in status["steps"]][3:] == ["shadow", "5%", "25%", "50%", "all"]
    lineage = (loop.home / "learning" / "lineage.jsonl").read_text()
    assert "prompt-base.challenger-1" in lineage
