"""Run every attack and every control, and decide whether a release may leave.

Left out: the attacks themselves.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from triptych.learning.abstraction.audit import attacks, synthetic
from triptych.learning.abstraction.audit.exposure import (
    CONTROL_BITS,
    CONTROL_GUESSES,
    GUESS_LIMIT,
    MEAN_LIMIT_BITS,
    REFERENCES,
    REPEATS,
    Canaries,
    CountingModel,
    draw_canaries,
    exposure,
)
from triptych.learning.abstraction.counting import Rules
from triptych.learning.abstraction.vocabulary import Vocabulary

FORMAT = 1
RECALL = 0.95


def run_audit(vocabulary: Vocabulary, rules: Rules, seed: int = 2026) -> dict[str, Any]:
    """Return the report. `passed` is False where a limit is broken, or a control did not leak."""
    seeds = range(seed, seed + attacks.SEEDS)
    planted = [attacks.plant(vocabulary, rules, one) for one in seeds]
    measured: dict[str, Any] = {
        "secrets_planted": sum(one.secrets for one in planted),
        "secrets_leaked": sum(one.leaked for one in planted),
        "patterns_with_support": sum(one.wanted for one in planted),
        "patterns_recovered": sum(one.recovered for one in planted),
        "patterns_below_k": sum(one.below_k for one in planted),
        "collusion_scenarios": attacks.SCENARIOS,
        "collusion_leaks": attacks.collude(vocabulary, rules, seed),
        "withdrawal_guess": attacks.difference(vocabulary, rules, seed, in_cohorts=True),
        "withdrawal_guess_control": attacks.difference(vocabulary, rules, seed, in_cohorts=False),
        "references": REFERENCES,
    }
    canaries = draw_canaries(seed)
    real, control = _models(vocabulary, rules, canaries, seed)
    measured["canaries"] = asdict(exposure(real, canaries, seed))
    measured["canaries_control"] = asdict(exposure(control, canaries, seed))
    failures, voids = failures_of(measured), voids_of(measured)
    reason = "; ".join([*failures, *(f"void: {one}" for one in voids)])
    return {
        "format": FORMAT,
        "passed": not failures and not voids,
        "void": bool(voids),
        "reason": reason,
        "summary": _summary(measured, reason),
        "vocabulary_sha256": vocabulary.sha256,
        "rules": asdict(rules),
        "seed": seed,
        "measured": measured,
    }


def failures_of(measured: dict[str, Any]) -> list[str]:
    """Return each limit that is broken, in words."""
    found = []
    if measured["secrets_leaked"]:
        found.append(f"{measured['secrets_leaked']} planted secrets came out")
    if measured["patterns_below_k"]:
        found.append(f"{measured['patterns_below_k']} patterns below k were published")
    if measured["collusion_leaks"]:
        found.append(f"{measured['collusion_leaks']} colluding groups published a secret")
    if abs(measured["withdrawal_guess"] - 0.5) > attacks.CHANCE:
        found.append(f"who withdrew is guessed in {measured['withdrawal_guess']:.0%}")
    if measured["canaries"]["mean_bits"] > MEAN_LIMIT_BITS:
        found.append(f"canaries have {measured['canaries']['mean_bits']:.2f} bits of exposure")
    if measured["canaries"]["right_guesses"] > GUESS_LIMIT:
        found.append(f"membership is guessed in {measured['canaries']['right_guesses']} of 100")
    return found


def voids_of(measured: dict[str, Any]) -> list[str]:
    """Return each control that did not leak; without it, no pass means anything."""
    found = []
    if (
        measured["patterns_recovered"] < RECALL * measured["patterns_with_support"]
        or not (measured["patterns_with_support"])
    ):
        found.append("the planted patterns were not recovered")
    control = measured["canaries_control"]
    if control["mean_bits"] < CONTROL_BITS:
        found.append(f"the leaky control has only {control['mean_bits']:.1f} bits")
    if control["right_guesses"] < CONTROL_GUESSES:
        found.append("the leaky control does not give membership away")
    if measured["withdrawal_guess_control"] < attacks.CONTROL_SHARE:
        found.append("the plain recount does not give away who withdrew")
    return found


def _models(
    vocabulary: Vocabulary, rules: Rules, canaries: Canaries, seed: int
) -> tuple[CountingModel, CountingModel]:
    """Return a model of what is published and one of the raw text, of the same companies."""
    import random

    drawn = random.Random(seed)
    names = [practice for practice, _, _ in synthetic.PATTERNS]
    many = 2 * rules.k + 2
    made = []
    for number in range(many):
        own = [text for _, text in canaries.inserted[number::many]]
        made.append(
            synthetic.company(drawn, f"company {number}", drawn.sample(names, 16), own * REPEATS)
        )
    cards = attacks.published(made, vocabulary, rules)
    out = attacks.said(cards, vocabulary, [text for _, text in canaries.inserted])
    raw = [document.text for one in made for document in one.documents]
    return CountingModel(out.split("\n")), CountingModel(raw)


def _summary(measured: dict[str, Any], reason: str) -> str:
    real, control = measured["canaries"], measured["canaries_control"]
    return (
        f"{reason if reason else 'passed'}: {measured['secrets_leaked']} of "
        f"{measured['secrets_planted']} planted secrets, {measured['collusion_leaks']} of "
        f"{measured['collusion_scenarios']} collusions, {measured['patterns_below_k']} patterns "
        f"below k, {measured['patterns_recovered']} of {measured['patterns_with_support']} "
        f"recovered; who withdrew guessed in {measured['withdrawal_guess']:.0%} (control "
        f"{measured['withdrawal_guess_control']:.0%}); canaries {real['mean_bits']:.2f} bits "
        f"(control {control['mean_bits']:.1f} of {measured['references']} references)"
    )
