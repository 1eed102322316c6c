"""The tier answers contributors from the table, and shows no word of a model that is not in it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from triptych.errors import LearningError
from triptych.learning.abstraction import vocabulary
from triptych.learning.abstraction.answering import Index, answer, compare
from triptych.learning.abstraction.audit.synthetic import company
from triptych.learning.abstraction.build import Home
from triptych.learning.abstraction.counting import Rules
from triptych.learning.abstraction.serving import open_source, set_open
from triptych.learning.abstraction.vocabulary import Vocabulary
from triptych.learning.company.store import Store
from triptych.wire.evidence import Evidence, KnowledgeSource

VOCABULARY = vocabulary.load()


def passes(_: Vocabulary, __: Rules) -> dict[str, Any]:
    return {"passed": True}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path, VOCABULARY, Rules(k=3))
    for number in range(12):
        name = f"firm{number:02d}"
        practices = ["on_call_rotation"] * (number < 7) + ["runbooks"] * (number < 2)
        home.register.agree(name, "administrator")
        home.read_company(name, company(random.Random(number), name, practices).documents)
    home.build(passes)
    return home


def asked(home: Home, question: str, who: str | None) -> Evidence | None:
    source: KnowledgeSource = open_source(home.folder)
    return asyncio.run(source.find(question, (), who, None))


def test_a_contributor_sees_the_support_and_its_own_position(home: Home) -> None:
    yes = asked(home, "How do others handle on-call?", "firm00")
    no = asked(home, "How do others handle on-call?", "firm11")
    assert yes is not None
    assert no is not None
    assert "7 of 12 companies have people on call by a rotation" in yes.answer
    assert "Your company: have people on call" in yes.answer
    assert "your documents do not say" in no.answer
    assert yes.citations[0].passage.text == no.citations[0].passage.text


def test_own_positions_never_stand_in_what_a_model_gets(home: Home) -> None:
    found = asked(home, "How do others handle on-call?", "firm00")
    assert found is not None
    assert "Your company" not in found.prompt()


def test_a_company_that_does_not_contribute_is_not_served(home: Home) -> None:
    assert asked(home, "How do others handle on-call?", "stranger") is None
    assert asked(home, "How do others handle on-call?", None) is None


def test_an_administrator_may_open_the_tier_to_all(home: Home) -> None:
    source = open_source(home.folder)
    set_open(home.folder, True)
    found = asyncio.run(source.find("How do others handle on-call?", (), "stranger", None))
    assert found is not None
    assert "Your company" not in found.answer
    set_open(home.folder, False)
    assert asked(home, "How do others handle on-call?", "stranger") is None


def test_below_k_the_answer_is_that_not_enough_companies_agree(home: Home) -> None:
    found = asked(home, "Do others keep runbooks?", "firm00")
    assert found is not None
    assert found.refused == "nothing_found"
    assert "Not enough companies agree to say" in found.answer
    assert "2 of" not in found.answer


def test_a_question_outside_the_vocabulary_is_refused(home: Home) -> None:
    found = asked(home, "What is the capital of France?", "firm00")
    assert found is not None
    assert found.refused == "nothing_found"


@pytest.mark.parametrize(
    ("wording", "is_shown"),
    [
        ("7 of 12 similar companies have people on call by a rotation [1].", True),
        ("8 of 12 similar companies have people on call by a rotation [1].", False),
        ("7 of 12 companies have people on call, among them Acme [1].", False),
        ("7 of 12 companies; ask ops@acme.com about on-call.", False),
    ],
)
def test_a_models_words_are_shown_only_where_the_table_holds_them(
    home: Home, wording: str, is_shown: bool
) -> None:
    source = open_source(home.folder)
    found = asked(home, "How do others handle on-call?", "firm00")
    assert found is not None
    checked = source.check(wording, found)
    assert checked.is_model_text is is_shown
    assert (checked.text == wording) is is_shown


def test_a_withdrawn_company_is_gone_from_the_next_answer(home: Home) -> None:
    home.withdraw("firm00")
    gone = asked(home, "How do others handle on-call?", "firm05")
    assert gone is not None
    assert gone.refused == "nothing_indexed"
    home.build(passes)
    after = asked(home, "How do others handle on-call?", "firm05")
    assert after is not None
    assert "4 of 9 companies" in after.answer
    assert asked(home, "How do others handle on-call?", "firm00") is None


def test_two_releases_are_compared(home: Home) -> None:
    first = home.releases.current()
    assert first is not None
    for number in range(20, 23):
        home.register.agree(f"firm{number}", "administrator")
        made = company(random.Random(number), f"firm{number}", ["on_call_rotation"])
        home.read_company(f"firm{number}", made.documents)
    second = home.build(passes).release
    assert second is not None
    said = compare("on-call rotation", first, second, Index(VOCABULARY))
    assert "10 of 15 companies (release 1: 7 of 12)" in said


def test_the_store_of_the_company_tier_is_read_as_its_documents_are(tmp_path: Path) -> None:
    made = company(random.Random(1), "acme", ["runbooks", "status_page", "sick_leave"])
    home = Home(tmp_path / "abstraction", VOCABULARY, Rules(k=3))
    home.register.agree("acme", "administrator")
    with Store(tmp_path / "acme", "acme") as store:
        store.apply("files", made.documents, ())
        stored = home.read_store("acme", store)
        assert stored is not None
        assert home.read_store("acme", store) is None
    plain = home.read_company("acme", made.documents)
    assert plain is not None
    assert stored.votes == plain.votes
    assert stored.profile.words == plain.profile.words


def test_a_segment_is_preferred_where_it_has_a_card(home: Home) -> None:
    said = answer("on-call", home.releases.current(), Index(VOCABULARY), segment="software")
    assert said.cards[0].dimension == "all"


def test_a_source_that_stays_open_sees_new_releases_and_readings(home: Home) -> None:
    source = open_source(home.folder)

    def ask() -> Evidence:
        found = asyncio.run(source.find("Who is on call?", (), "firm11", None))
        assert found is not None
        return found

    assert "7 of 12" in ask().answer
    assert "do not say" in ask().answer
    for number in range(20, 23):
        home.register.agree(f"firm{number}", "administrator")
        made = company(random.Random(number), f"firm{number}", ["on_call_rotation"])
        home.read_company(f"firm{number}", made.documents)
    made = company(random.Random(1), "firm11", ["on_call_rotation"])
    home.read_company("firm11", made.documents)
    home.build(passes)
    # One company's change is held back from the counts, and is in its own position at once.
    assert "10 of 15" in ask().answer
    assert "Your company: have people on call" in ask().answer
    home.withdraw("firm00")
    assert ask().refused == "nothing_indexed"


def test_another_vocabulary_asks_for_the_documents_to_be_read_again(home: Home) -> None:
    other = replace(VOCABULARY, sha256="other")
    changed = Home(home.folder, other, Rules(k=3))
    with pytest.raises(LearningError, match="another vocabulary"):
        changed.build(passes)
    for number in range(12):
        name = f"firm{number:02d}"
        made = company(random.Random(number), name, ["runbooks"])
        assert changed.read_company(name, made.documents, "digest") is not None
    assert changed.build(passes).release is not None
