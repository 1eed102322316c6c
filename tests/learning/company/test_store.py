"""A company's store: exact passages, atomic versions, rights at once, and nothing left behind."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from company_documents import document

from triptych.documents import Document
from triptych.errors import LearningError
from triptych.learning.company.passages import divide
from triptych.learning.company.retrieval import Retriever
from triptych.learning.company.store import Store

EVERYONE = frozenset(("everyone",))
LEAVE = "# Time off\n\n## Paid leave\n\nEmployees have 25 days of paid leave a year.\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    one = Store(tmp_path / "acme", "acme")
    one.set_source("handbook", "handbook", ["everyone"])
    return one


def test_every_passage_is_a_slice_of_its_document_and_all_words_are_in_one() -> None:
    long = (
        "# A\n\n" + " ".join(f"Sentence {n} has words." for n in range(300)) + "\n\n## B\n\nEnd.\n"
    )
    one = document("long.md", long)
    pieces = divide(one)
    for piece in pieces:
        assert one.text[piece.start : piece.end] == piece.text
        assert len(piece.text.split()) <= 240
    body = " ".join(block.text for block in one.blocks if block.kind != "heading").split()
    assert " ".join(piece.text for piece in pieces).split() == body
    assert pieces[-1].headings == ("A", "B")


def test_a_question_finds_the_passage_that_answers_it(store: Store) -> None:
    store.apply(
        "handbook", [document("leave.md", LEAVE), document("x.md", "# Lunch\n\nAt noon.")], []
    )
    ranked, _ = Retriever(store).find("How many days of leave do employees get?", EVERYONE)
    assert ranked[0].passage.text == "Employees have 25 days of paid leave a year."
    assert ranked[0].passage.headings == ("Time off", "Paid leave")


@pytest.mark.parametrize(
    "text", ['"', "a OR b", "NEAR(x)", "*", "col:body", "", "'; drop table", "é\ud800"]
)
def test_no_question_is_read_as_a_query_language(store: Store, text: str) -> None:
    store.apply("handbook", [document("leave.md", LEAVE)], [])
    Retriever(store).find(text, EVERYONE)


def test_a_failed_change_leaves_the_old_version_answering(store: Store) -> None:
    store.apply("handbook", [document("leave.md", LEAVE)], [])

    def changes() -> list[Document]:
        yield document("leave.md", LEAVE.replace("25", "30"))  # type: ignore[misc]
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError):
        store.apply("handbook", changes(), [])
    ranked, _ = Retriever(store).find("paid leave", EVERYONE)
    assert "25 days" in ranked[0].passage.text
    assert store.version == 1


def test_a_new_version_replaces_the_old_one_in_answers(store: Store) -> None:
    store.apply("handbook", [document("leave.md", LEAVE)], [])
    store.apply("handbook", [document("leave.md", LEAVE.replace("25", "30"))], [])
    ranked, _ = Retriever(store).find("paid leave", EVERYONE)
    assert [one.passage.text for one in ranked] == ["Employees have 30 days of paid leave a year."]
    store.apply("handbook", [], ["leave.md"])
    assert Retriever(store).find("paid leave", EVERYONE)[0] == []


def test_rights_act_on_the_next_question_without_a_new_index(store: Store) -> None:
    store.apply("handbook", [document("leave.md", LEAVE)], [])
    find = Retriever(store).find
    assert find("paid leave", frozenset())[0] == []
    store.set_source("handbook", "handbook", ["managers"])
    assert find("paid leave", EVERYONE)[0] == []
    assert find("paid leave", frozenset(("managers",)))[0]
    store.set_document_groups("handbook", "leave.md", [])
    assert find("paid leave", frozenset(("managers",)))[0] == []
    assert find("paid leave", None)[0]
    # A new version of the document keeps the limits that a person set.
    store.apply("handbook", [document("leave.md", LEAVE + "\nMore.")], [])
    assert find("paid leave", frozenset(("managers",)))[0] == []


def test_what_is_forgotten_leaves_no_byte_in_any_file(store: Store) -> None:
    secret = "zanzibarquota"
    for words in ("first", "second"):
        store.apply("handbook", [document("s.md", f"# S\n\nThe {secret} is {words}.")], [])
    store.apply("handbook", [document("leave.md", LEAVE)], [])
    assert any(secret.encode() in file.read_bytes() for file in store.folder.iterdir())
    assert store.forget("handbook", "s.md") == 2
    for file in store.folder.iterdir():
        assert secret.encode() not in file.read_bytes(), file.name
    assert Retriever(store).find("paid leave", EVERYONE)[0]
    check = store.connection().execute("insert into words (words) values ('integrity-check')")
    assert check is not None


def test_a_file_of_another_company_is_refused(store: Store) -> None:
    store.close()
    with pytest.raises(LearningError, match="acme"):
        Store(store.folder, "bravo")


def test_the_same_documents_make_the_same_passages(tmp_path: Path) -> None:
    dumps = []
    for name in ("one", "two"):
        one = Store(tmp_path / name, "acme")
        one.set_source("h", "h", ["everyone"])
        one.apply("h", [document("leave.md", LEAVE), document("b.md", "# B\n\nText.")], [])
        one.purge()
        one.close()
        with sqlite3.connect(one.file) as database:
            dumps.append("\n".join(database.iterdump()))
    assert dumps[0] == dumps[1]
