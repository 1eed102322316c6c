"""model=auto chooses well, says why, and policy stands above it (checks 5 and 6)."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from triptych.config.gateway import UpstreamConfig
from triptych.errors import ConfigError
from triptych.tiers.rules.classifier import BUCKETS, MODEL_FILE, NgramClassifier, features, pack
from triptych.tiers.store import accounts

QUESTIONS = {
    "base": "translate good morning into french",
    "company": "What is our policy on parental leave?",
    "abstraction": "How do other companies in our industry handle parental leave?",
}


@pytest.fixture(scope="module")
def classifier() -> NgramClassifier:
    return NgramClassifier.load()


@pytest.mark.parametrize(("tier", "text"), QUESTIONS.items())
def test_plain_questions_go_where_a_person_would_send_them(classifier, tier, text) -> None:
    found, probability = classifier.classify(text)
    assert found == tier
    assert probability > 0.6


def test_it_abstains_instead_of_guessing(classifier) -> None:
    _, probability = classifier.classify("")
    assert probability <= 1
    low = [classifier.classify(text) for text in ("code review", "is this normal")]
    assert any(tier is None for tier, _ in low)
    assert all(p < classifier.threshold for tier, p in low if tier is None)


def test_probabilities_are_probabilities_for_any_text(classifier) -> None:
    for text in ("", "🎉" * 500, "a" * 100_000, "\x00\ud7ff", "Ünïcode 你好"):
        found = classifier.probabilities(text)
        assert abs(sum(found) - 1) < 1e-9
        assert min(found) >= 0


def test_features_are_the_same_in_every_process_and_bounded() -> None:
    assert sorted(features("Hello there")) == sorted(features("hello THERE"))
    assert len(features("word " * 10_000)) < 2000
    assert max(features("x" * 300)) < BUCKETS


def test_a_file_of_another_version_is_refused() -> None:
    packed = pack([[0.1] * BUCKETS] * 3, [0, 0, 0], ["a", "b", "c"], temperature=1.0,
                  threshold=0.5, about={})  # fmt: skip
    assert NgramClassifier(packed).labels == ("a", "b", "c")
    with pytest.raises(ConfigError, match="version"):
        NgramClassifier(packed | {"format_version": 99})
    assert MODEL_FILE.stat().st_size < 100_000


def test_the_shipped_weights_keep_their_figures_on_sources_they_never_saw(
    classifier, shared_data, repository, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    spec = importlib.util.spec_from_file_location(
        "selector_benchmark", repository / "benchmarks" / "selector.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "selector_benchmark", module)
    spec.loader.exec_module(module)
    test = module.Sources(1).test()
    found = module.judge(classifier, test, 1)
    assert found["test_prompts"] >= 600
    assert found["macro_f1"] >= 0.90
    assert found["calibration_error"] <= 0.05
    assert found["flip_rate_one_typo"] <= 0.05
    assert found["keyword_macro_f1"] < found["macro_f1"] - 0.05
    assert found["gain_over_keywords_95"][0] > 0
    assert found["majority_macro_f1"] < 0.5


@pytest.fixture
async def tiered(workshop) -> Any:
    gateway = await workshop.gateway(
        {
            "s": UpstreamConfig(
                "scripted", "", {"base": "echo", "company": "echo", "abstraction": "echo"}
            )
        }
    )
    await gateway.set(
        provider__scripted=True, real_ai_only=False, tier__company=True, tier__abstraction=True
    )
    await accounts.create_company(gateway.database, "acme", "Acme", actor="t")
    await accounts.create_user(gateway.database, "ann", companies=["acme"], actor="t")
    await accounts.create_user(gateway.database, "eve", actor="t")
    gateway.ann, gateway.eve = [
        await accounts.create_key(gateway.database, name=u, kind="user", user_id=u, actor="t")
        for u in ("ann", "eve")
    ]
    await gateway.runtime.refresh()
    return gateway


async def auto(gateway: Any, key: str, text: str, **headers: str) -> dict[str, str]:
    _, _, got = await gateway.post(
        "/v1/chat/completions",
        {"model": "auto", "messages": [{"role": "user", "content": text}]},
        authorization=f"Bearer {key}",
        **headers,
    )
    return got


async def test_auto_serves_the_tier_it_chose_and_says_why(tiered) -> None:
    for tier, text in QUESTIONS.items():
        got = await auto(tiered, tiered.ann, text)
        assert (got["x-triptych-tier"], got["x-triptych-reason"]) == (tier, "auto")
        assert got["x-triptych-tier-asked"] == "auto"
    rows = await tiered.records()
    assert [row["tier_served"] for row in rows] == list(QUESTIONS)
    assert all(row["selector"].startswith("ngram-") for row in rows)


async def test_policy_stands_above_the_classifier(tiered) -> None:
    got = await auto(tiered, tiered.eve, QUESTIONS["company"])
    assert (got["x-triptych-tier"], got["x-triptych-reason"]) == ("base", "auto_not_entitled")
    await tiered.set(tier__abstraction=False)
    got = await auto(tiered, tiered.ann, QUESTIONS["abstraction"])
    assert (got["x-triptych-tier"], got["x-triptych-reason"]) == ("base", "auto_flag_disabled")
    got = await auto(tiered, tiered.ann, QUESTIONS["base"], x_triptych_tier="company")
    assert (got["x-triptych-tier"], got["x-triptych-reason"]) == ("company", "explicit_header")
    await tiered.set(auto=False)
    got = await auto(tiered, tiered.ann, QUESTIONS["company"])
    assert (got["x-triptych-tier"], got["x-triptych-reason"]) == ("base", "auto_off")


async def test_d1_the_company_tier_is_for_members_only_and_refusals_reach_nobody(tiered) -> None:
    body = {"model": "company", "messages": [{"role": "user", "content": "x"}]}
    for key, company, code in (
        (tiered.eve, "acme", "not_a_member"),
        (tiered.eve, None, "company_required"),
        (tiered.ann, "globex", "not_a_member"),
    ):
        headers = {"authorization": f"Bearer {key}"}
        if company:
            headers["x-triptych-company"] = company
        status, answer, _ = await tiered.post("/v1/chat/completions", body, **headers)
        assert (status, answer["error"]["code"]) == (403, code)
    rows = await tiered.records()
    assert {(row["outcome"], row["attempts"]) for row in rows} == {("refused", 0)}
    status, _, got = await tiered.post(
        "/v1/chat/completions", body, authorization=f"Bearer {tiered.ann}"
    )
    assert (status, got["x-triptych-tier"]) == (200, "company")
