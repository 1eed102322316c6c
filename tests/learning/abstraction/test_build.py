"""A release counts those that agreed; one that withdraws is gone, as if it had never been there."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from triptych.errors import LearningError
from triptych.learning.abstraction import vocabulary
from triptych.learning.abstraction.answering import Index, answer
from triptych.learning.abstraction.audit.synthetic import PATTERNS, company
from triptych.learning.abstraction.build import Home
from triptych.learning.abstraction.consents import RecordedConsents
from triptych.learning.abstraction.counting import Rules
from triptych.learning.abstraction.serving import erase
from triptych.learning.abstraction.vocabulary import Vocabulary

VOCABULARY = vocabulary.load()
NAMES = [practice for practice, _, _ in PATTERNS]


def passes(_: Vocabulary, __: Rules) -> dict[str, Any]:
    return {"passed": True}


def fails(_: Vocabulary, __: Rules) -> dict[str, Any]:
    return {"passed": False, "reason": "a secret came out"}


def home_of(folder: Path, companies: dict[str, list[str]], k: int = 3) -> Home:
    home = Home(folder, VOCABULARY, Rules(k=k))
    for name, practices in companies.items():
        home.register.agree(name, "administrator")
        home.read_company(name, company(random.Random(name), name, practices).documents)
    home.register.save()
    return home


def drawn_companies(number: int, seed: int = 1) -> dict[str, list[str]]:
    drawn = random.Random(seed)
    return {f"firm{one:02d}": ["runbooks", *drawn.sample(NAMES, 8)] for one in range(number)}


def bytes_of(home: Home) -> dict[str, bytes]:
    release = home.releases.current()
    assert release is not None
    folder = home.releases.path(release.number)
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_an_answer_has_the_support_of_the_table(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(9))
    outcome = home.build(passes)
    assert outcome.release is not None
    said = answer("who has a runbook?", outcome.release, Index(VOCABULARY), {"runbooks": "yes"})
    assert "At least 7 of 9 companies keep runbooks" in said.text
    assert "Your company: keep runbooks" in said.text


def test_a_company_that_withdraws_leaves_the_bytes_of_a_build_that_never_saw_it(
    tmp_path: Path,
) -> None:
    companies = drawn_companies(12)
    seen = home_of(tmp_path / "seen", companies)
    assert seen.build(passes).release is not None
    old = seen.releases.path(1)
    assert seen.withdraw("firm04") == [1]
    assert not old.exists()
    assert seen.releases.current() is None
    assert seen.build(passes).release is not None

    never = home_of(tmp_path / "never", {n: p for n, p in companies.items() if n != "firm04"})
    # The rest of its cohort waits in both worlds; here it has not been admitted yet.
    mates = ("firm03", "firm05")
    ids = {name: never.register.members[name] for name in mates}
    for name in mates:
        del never.register.members[name]
    assert never.build(passes).release is not None
    never.register.members.update(ids)
    assert bytes_of(seen) == bytes_of(never)
    assert not any(b"firm" in data for data in bytes_of(seen).values())


def test_nothing_of_a_company_is_left_in_any_file_after_it_withdrew(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(6))
    home.build(passes)
    opaque = home.register["firm02"].id
    home.withdraw("firm02")
    home.build(passes)
    left = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert left
    assert not [one for one in left if opaque in str(one) or opaque.encode() in one.read_bytes()]
    assert not [one for one in left if b"firm02" in one.read_bytes()]


def test_the_release_after_a_withdrawal_is_the_same_whichever_of_the_cohort_withdrew(
    tmp_path: Path,
) -> None:
    companies = drawn_companies(12)
    after = []
    for gone in ("firm03", "firm04", "firm05"):
        home = home_of(tmp_path / gone, companies)
        home.build(passes)
        home.withdraw(gone)
        home.build(passes)
        after.append(bytes_of(home))
    assert after[0] == after[1] == after[2]


def test_fewer_than_k_new_companies_change_nothing(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(6))
    home.build(passes)
    before = bytes_of(home)
    for place, name in enumerate(("late1", "late2", "late3")):
        home.register.agree(name, "administrator")
        home.read_company(name, company(random.Random(name), name, NAMES).documents)
        home.build(passes)
        assert (bytes_of(home) == before) == (place < 2)


def test_those_left_behind_wait_for_k_new_companies(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(9))
    home.build(passes)
    home.withdraw("firm00")
    assert home.build(passes).waiting == 2
    for name in ("late1", "late2"):
        home.register.agree(name, "administrator")
        home.read_company(name, company(random.Random(name), name, NAMES).documents)
    assert home.build(passes).admitted == 6
    home.register.agree("late3", "administrator")
    home.read_company("late3", company(random.Random("3"), "late3", NAMES).documents)
    assert home.build(passes).admitted == 11


def test_a_change_of_one_company_is_held_back_until_k_changed(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(9))
    home.build(passes)
    before = bytes_of(home)
    for place, name in enumerate(("firm00", "firm01", "firm02")):
        home.read_company(name, company(random.Random(name), name, ["status_page"]).documents)
        held = home.build(passes).held_changes
        assert held == (place + 1 if place < 2 else 0)
        assert (bytes_of(home) == before) == (place < 2)


def test_a_practice_struck_out_is_not_counted_again(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(6))
    home.register.strike("firm00", ("runbooks",))
    release = home.build(passes).release
    assert release is not None
    (card,) = [one for one in release.cards if one.practice == "runbooks"]
    # Five of six: the one without is fewer than k, so only a bound is said.
    assert (card.supports[0].companies, card.supports[0].at_least) == (4, True)


def test_consent_that_ends_takes_the_company_out_at_the_next_build(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(9))
    home.build(passes)
    granted = {name: "company:7" for name in home.register.members if name != "firm08"}
    home.build(passes, RecordedConsents(granted))
    assert "firm08" not in home.register.members
    assert home.register["firm00"].consent == "company:7"
    assert len(home.register.counted()) == 6


def test_an_audit_that_fails_stops_the_release_and_its_report_is_kept(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(6))
    outcome = home.build(fails)
    assert outcome.release is None
    assert "a secret came out" in outcome.reason
    assert home.releases.current() is None
    assert len(list((tmp_path / "audits").iterdir())) == 1


def test_a_release_changed_on_disk_is_not_served(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(6))
    home.build(passes)
    file = home.releases.path(1) / "cards.jsonl"
    file.write_text(file.read_text("utf-8").replace("At least", "Exactly"), "utf-8")
    with pytest.raises(LearningError, match="not what was released"):
        home.releases.current()


def test_only_the_owner_reads_the_register_the_readings_and_the_lineage(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(6))
    home.build(passes)
    private = [tmp_path / "register.json", *(tmp_path / "lineage").iterdir()]
    private += [one for one in (tmp_path / "companies").rglob("*") if one.is_file()]
    assert len(private) > 6
    assert all(one.stat().st_mode & 0o077 == 0 for one in private)


def test_an_erased_document_takes_its_company_out_until_it_is_read_again(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(9))
    home.build(passes)
    opaque = home.register["firm00"].id
    assert erase(tmp_path, "firm00", is_whole=False) == [1]
    again = Home(tmp_path, VOCABULARY, Rules(k=3))
    assert not (tmp_path / "companies" / opaque).exists()
    assert again.build(passes).admitted == 6
    assert again.register["firm00"].cohort == 0


def test_an_erased_company_contributes_no_longer(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(6))
    home.build(passes)
    assert erase(tmp_path, "firm00", is_whole=True) == [1]
    assert "firm00" not in Home(tmp_path, VOCABULARY, Rules(k=3)).register.members
    assert erase(tmp_path, "firm00", is_whole=True) == []


def test_a_company_without_documents_keeps_no_other_from_being_counted(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(6))
    home.register.agree("empty", "administrator")
    outcome = home.build(passes)
    assert (outcome.admitted, outcome.waiting) == (6, 1)


def test_those_who_wait_come_back_once_k_companies_left_or_changed(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(12))
    home.build(passes)
    admitted = []
    for name in ("firm00", "firm03", "firm06"):
        home.withdraw(name)
        admitted.append(home.build(passes).admitted)
    assert admitted == [9, 6, 9]


def test_one_company_that_changes_often_does_not_bring_its_cohort_back(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(9))
    home.build(passes)
    for practice in ("runbooks", "expenses", "sick_leave", "backups"):
        home.register.strike("firm00", (practice,))
        assert home.build(passes).admitted == 6


def test_industries_of_all_companies_may_be_written_down_later(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(9))
    home.build(passes)
    for name in list(home.register.members):
        home.register.agree(name, "administrator", industry="software")
    assert home.build(passes).admitted == 9


def test_raising_k_makes_larger_cohorts(tmp_path: Path) -> None:
    home_of(tmp_path, drawn_companies(12)).build(passes)
    larger = Home(tmp_path, VOCABULARY, Rules(k=5))
    assert larger.build(passes).admitted == 12
    larger.withdraw("firm00")
    assert larger.build(passes).admitted == 7


def test_a_company_that_is_no_longer_verified_is_not_counted(tmp_path: Path) -> None:
    home = home_of(tmp_path, drawn_companies(9))
    home.build(passes)
    home.register.agree("firm00", "administrator", verified=False)
    assert home.build(passes).admitted == 6
