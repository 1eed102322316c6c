"""No figure stands on fewer than k companies, and none of them follows by subtraction."""

from __future__ import annotations

import random

import pytest

from triptych.errors import LearningError
from triptych.learning.abstraction import vocabulary
from triptych.learning.abstraction.cards import render
from triptych.learning.abstraction.counting import Contribution, Line, Rules, bounded, count

VOCABULARY = vocabulary.load()
RULES = Rules(k=5)


def lines(votes: list[dict[str, str]], industries: list[str] | None = None) -> list[Line]:
    given = [
        Contribution(f"{number:03d}", vote, {}, industries[number] if industries else "software")
        for number, vote in enumerate(votes)
    ]
    return count(given, VOCABULARY, RULES)


def test_k_below_the_floor_is_refused() -> None:
    with pytest.raises(LearningError, match="floor"):
        Rules(k=2)


@pytest.mark.parametrize("holders", range(14))
def test_a_practice_of_fewer_than_k_companies_has_no_line(holders: int) -> None:
    found = lines([{"runbooks": "yes"}] * holders + [{}] * (14 - holders))
    assert bool(found) == (holders >= 5)


def test_the_number_of_companies_without_a_value_is_not_said_below_k() -> None:
    for others in range(5):
        (line,) = lines([{"runbooks": "yes"}] * (13 - others) + [{}] * others)
        assert (line.supports[0].companies, line.supports[0].at_least) == (9, True)


def test_a_rare_choice_cannot_be_found_by_subtraction() -> None:
    votes = [{"cloud": "AWS"}] * 6 + [{"cloud": "Azure"}] * 2 + [{}] * 6
    (line,) = lines(votes)
    assert [one.value for one in line.supports] == ["AWS"]


def test_a_segment_is_shown_only_where_every_other_one_is() -> None:
    industries = ["software"] * 7 + ["public sector"] * 7
    small = lines([{"runbooks": "yes"}] * 9 + [{}] * 5, industries)
    assert {one.dimension for one in small} == {"all"}
    large = lines(([{"runbooks": "yes"}] * 6 + [{}]) * 2, industries)
    assert {one.segment for one in large} == {"", "software", "public sector"}


def test_one_company_counts_for_a_bounded_number_of_practices() -> None:
    names = [one.id for one in VOCABULARY.practices if one.kind == "yes_no"]
    greedy = Contribution("a", dict.fromkeys(names, "yes"), {names[3]: 9})
    kept = bounded(greedy, Rules(most_practices=10))
    assert len(kept) == 10
    assert names[3] in kept


def test_a_company_with_most_of_the_passages_holds_the_line_back() -> None:
    rules = Rules(k=3, evidence_cap=50)
    votes = [Contribution(str(n), {"runbooks": "yes"}, {"runbooks": 50 if n == 0 else 1})
             for n in range(8)]  # fmt: skip
    assert not count(votes, VOCABULARY, rules)
    assert count(votes, VOCABULARY, Rules(k=3))


def test_the_order_of_companies_changes_nothing() -> None:
    drawn = random.Random(1)
    names = [one.id for one in VOCABULARY.practices if one.kind == "yes_no"]
    given = [Contribution(str(n), dict.fromkeys(drawn.sample(names, 20), "yes")) for n in range(30)]
    first = render(count(given, VOCABULARY, RULES), VOCABULARY)
    drawn.shuffle(given)
    assert render(count(given, VOCABULARY, RULES), VOCABULARY) == first
