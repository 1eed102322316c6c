"""The whole loop against a gateway process: corrections, data set, gate, rollout, back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loop_process import QUICK, Loop


@pytest.fixture
def loop(own_home: Path) -> Iterator[Loop]:
    made = Loop(own_home)
    yield made
    made.gateway.kill()


def corrected(loop: Loop, amount: int = 60) -> None:
    """Make corrections: each right answer repeats the question."""
    # A text with a line end of Unicode is one row all the same.
    asked = [f"which colour\u2028 has item {number}" for number in range(amount)]
    loop.corrections(asked, asked)


def gated(loop: Loop, folder: Path, code: int = 0) -> Any:
    """Let both models answer new questions, and return the gate's verdict."""
    plan, cases = folder / "plan.json", folder / "cases.json"
    loop.learn("plan", str(plan), "--target", "colours", "--limit", "minimum_cases=20")
    asked = [f"which colour has box {number}" for number in range(20)]
    cases.write_text(json.dumps([{"id": one, "slice": "colours", "prompt": one} for one in asked]))
    for name, model in (("before", "base"), ("after", "base.challenger")):
        results = {}
        for one in asked:
            answer = loop.ask(one, model=model)[1]
            results[one] = {"right": answer == one, "text": answer}
        measures = {"general_bpb": 1.0, "latency_s": 0.1}
        (folder / f"{name}.json").write_text(json.dumps({"results": results, "measures": measures}))
    files = [str(folder / f"{name}.json") for name in ("before", "after")]
    return loop.learn("gate", str(plan), str(cases), *files, code=code)


def test_g6_a_worse_model_in_the_challengers_place_is_stopped_with_its_reason(
    own_home: Path, tmp_path: Path
) -> None:
    loop = Loop(own_home, served="echo", candidate="say-no-idea")
    try:
        verdict = gated(loop, tmp_path, code=1)
    finally:
        loop.gateway.kill()
    assert verdict["outcome"] == "not_better"
    assert "no gain is shown in colours: 0% right, before 100%" in verdict["reason"]
    assert len(verdict["worst"]) == 10


def test_sixty_corrections_become_a_data_set_a_verdict_a_rollout_and_a_way_back(
    loop: Loop, tmp_path: Path
) -> None:
    corrected(loop)
    made = loop.learn("dataset", "--minimum", "40", "--user-share", "1")
    assert made["train"] + made["held_out"] == 60
    assert made["removed"] == {}
    assert (Path(made["folder"]) / "manifest.json").exists()

    verdict = gated(loop, tmp_path)
    assert verdict["outcome"] == "better"
    assert "p = " in verdict["reason"]

    begun = loop.learn("start", "served", "candidate", *QUICK)
    assert (begun["stage"], begun["share"]) == ("shadow", 0.0)
    assert loop.learn("status")["traffic_agrees"]
    flags = {one["key"]: one for one in loop.call("GET", "/admin/flags")["flags"]}
    assert flags["shadow.base"]["definition"]["defaultVariant"] == "on"
    shares: list[Any] = []
    asked = 0
    for _ in range(40):
        state = loop.learn("decide")
        if not shares or shares[-1] != (state["stage"], state["share"]):
            shares.append((state["stage"], state["share"]))
        if state["stage"] == "promoted":
            break
        assert loop.learn("status")["traffic_agrees"], state
        loop.traffic(60, asked)
        asked += 60
    live = [("live", share) for share in (0.05, 0.25, 0.5)]
    assert shares == [("shadow", 0.0), *live, ("promoted", 1.0)], state
    assert loop.traffic(12, 10_000) == 12

    started = time.monotonic()
    assert loop.learn("back")["stage"] == "rolled_back"
    print("back took", time.monotonic() - started)
    assert loop.traffic(12, 20_000) == 0
    assert loop.learn("status")["traffic_agrees"]
    audit = loop.call("GET", "/admin/audit?limit=50")["entries"]
    assert json.dumps(audit).count("challenger.base") >= 3
