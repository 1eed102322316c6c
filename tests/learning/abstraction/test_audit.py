"""The audit can fail: a leak is found, and a control that does not leak makes it void."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from triptych.learning.abstraction import vocabulary
from triptych.learning.abstraction.audit import attacks, exposure, report
from triptych.learning.abstraction.audit.synthetic import SHAPES, secret
from triptych.learning.abstraction.build import gated_cards
from triptych.learning.abstraction.cards import Card
from triptych.learning.abstraction.counting import Rules, Support
from triptych.learning.abstraction.gates import Gates, card_problems, profile
from triptych.learning.abstraction.vocabulary import Vocabulary

VOCABULARY = vocabulary.load()
RULES = Rules(k=3)
FINE: dict[str, Any] = {
    "secrets_leaked": 0,
    "patterns_below_k": 0,
    "patterns_with_support": 40,
    "patterns_recovered": 40,
    "collusion_leaks": 0,
    "withdrawal_guess": 0.5,
    "withdrawal_guess_control": 1.0,
    "canaries": {"mean_bits": 1.4, "right_guesses": 50},
    "canaries_control": {"mean_bits": 11.0, "right_guesses": 99},
}


def test_a_report_without_leaks_passes() -> None:
    assert not report.failures_of(FINE)
    assert not report.voids_of(FINE)


@pytest.mark.parametrize(
    "change",
    [
        {"secrets_leaked": 1},
        {"patterns_below_k": 1},
        {"collusion_leaks": 1},
        {"withdrawal_guess": 0.56},
        {"canaries": {"mean_bits": 1.81, "right_guesses": 50}},
        {"canaries": {"mean_bits": 1.4, "right_guesses": 59}},
    ],
)
def test_each_leak_fails(change: dict[str, Any]) -> None:
    assert report.failures_of(FINE | change)


@pytest.mark.parametrize(
    "change",
    [
        {"patterns_recovered": 37},
        {"patterns_with_support": 0},
        {"withdrawal_guess_control": 0.7},
        {"canaries_control": {"mean_bits": 9.9, "right_guesses": 99}},
        {"canaries_control": {"mean_bits": 11.0, "right_guesses": 79}},
    ],
)
def test_a_control_that_does_not_leak_makes_it_void(change: dict[str, Any]) -> None:
    assert report.voids_of(FINE | change)


def test_planted_secrets_stay_in_and_supported_patterns_come_out() -> None:
    found = attacks.plant(VOCABULARY, RULES, 1)
    assert (found.secrets, found.leaked, found.below_k) == (480, 0, 0)
    assert found.recovered == found.wanted > 5


def test_a_card_that_copies_a_company_is_found_by_the_audit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def leaky(companies: Any, *_: Any) -> list[Card]:
        text = companies[0].documents[0].text
        return [Card("x", "runbooks", "on-call", "all", "", 9, (Support("yes", 9),), text)]

    monkeypatch.setattr(attacks, "published", leaky)
    assert attacks.plant(VOCABULARY, RULES, 1).leaked > 0


def test_who_withdrew_is_found_in_a_plain_recount_and_not_with_cohorts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attacks, "TRIALS", 60)
    assert attacks.difference(VOCABULARY, RULES, 1, in_cohorts=False) > 0.9
    assert abs(attacks.difference(VOCABULARY, RULES, 1, in_cohorts=True) - 0.5) < 0.2


def test_exposure_is_ten_bits_for_text_with_canaries_and_none_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exposure, "REFERENCES", 1024)
    canaries = exposure.draw_canaries(3)
    carried = [f"we keep {text} here" for _, text in canaries.inserted]
    leaky = exposure.CountingModel(carried * 16)
    clean = exposure.CountingModel(["nine of thirteen companies keep runbooks"] * 16)
    found = exposure.exposure(leaky, canaries, 3)
    assert found.mean_bits > 9.5
    assert found.right_guesses > 90
    assert exposure.exposure(clean, canaries, 3).mean_bits < 2


@pytest.mark.parametrize("shape", SHAPES)
def test_no_secret_passes_the_gates_even_where_one_company_wrote_it(shape: str) -> None:
    drawn = random.Random(shape)
    for _ in range(20):
        hidden = secret(drawn, shape)
        text = f"we said once that the name we all agreed to use is {hidden} from now on"
        profiles = [profile("a", [text]), *(profile(str(n), ["table river"]) for n in range(4))]
        gates = Gates.of(VOCABULARY, RULES.k, profiles)
        card = Card("x", "runbooks", "on-call", "all", "", 9, (), f"Companies use {hidden}.")
        assert card_problems(card, gates), hidden


def test_common_words_in_a_row_of_one_company_are_a_copy() -> None:
    words = "table river window garden paper letter music winter"
    many = [profile(str(n), words.split()) for n in range(5)]
    gates = Gates.of(VOCABULARY, 3, [profile("victim", [words]), *many])
    assert gates.problems(words) == ["8 words in a row from fewer than 3 companies"]


def test_a_companys_own_name_is_stopped_and_a_public_word_is_not() -> None:
    profiles = [profile(str(n), ["acme tools"], ["Acme Tools", "companies"]) for n in range(5)]
    gates = Gates.of(VOCABULARY, 3, profiles)
    assert gates.problems("acme tools") == ["a name of a company's own"]
    assert not gates.problems("companies keep runbooks (playbooks) for operations")


def test_a_company_cannot_suppress_a_card_by_writing_its_words() -> None:
    one = attacks.synthetic.company(random.Random(1), "a", ["runbooks"])
    contributions = [attacks.Contribution(str(number), {"runbooks": "yes"}) for number in range(12)]
    plain, _ = gated_cards(contributions, list, VOCABULARY, RULES)
    written = profile("a", [plain[0].text, *(doc.text for doc in one.documents)], ["runbooks"])
    assert gated_cards(contributions, lambda: [written], VOCABULARY, RULES)[0] == plain
    # The texts are not even loaded for such a card; with them, it passes as well.
    gates = Gates.of(VOCABULARY, RULES.k, [written])
    assert not card_problems(plain[0], gates)


def test_a_vocabularys_foreign_text_meets_the_companies_texts() -> None:
    one = VOCABULARY["runbooks"]
    hidden = replace(VOCABULARY, practices=(replace(one, text="use Arvenko"),))
    gates = Gates.of(VOCABULARY, RULES.k, [])
    card = Card("x", "runbooks", "on-call", "all", "", 9, (), "Companies use Arvenko.")
    assert not gates.is_public(card)
    assert Gates.of(hidden, RULES.k, []).is_public(card)


def test_every_practice_of_the_vocabulary_renders_and_passes_the_gates() -> None:
    votes = {one.id: one.values[0] for one in VOCABULARY.practices}
    wide = Rules(k=3, most_practices=1000)
    contributions = [
        attacks.Contribution(str(n), votes if n < 6 else {}, {}, "software", "over 500")
        for n in range(12)
    ]
    cards, stopped = gated_cards(contributions, list, VOCABULARY, wide)
    assert not stopped
    assert {card.practice for card in cards} == set(votes)


def test_the_vocabulary_of_another_file_goes_through_the_same_audit() -> None:
    small = Vocabulary("x", "x", VOCABULARY.practices[:1], (), ())
    assert attacks.plant(small, RULES, 1).leaked == 0
