"""A folder becomes a company's knowledge: compared, whole or not at all, forgotten for good."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from triptych.documents import DocumentReader
from triptych.durable import FolderLock
from triptych.errors import LearningError, StorageError
from triptych.learning.company.answer import answer
from triptych.learning.company.evaluate import Question, add_questions, evaluate, questions
from triptych.learning.company.library import CompanyKnowledge, Library
from triptych.learning.company.retrieval import Retriever
from triptych.learning.company.store import Store
from triptych.learning.company.sync import LOCK, STAGING, compare, sync

PAGES = {
    "leave.md": "# Time off\n\n## Paid leave\n\nEmployees have 25 days of paid leave a year.\n",
    "office/hours.md": "# Office\n\nThe office opens at 8:00 and closes at 18:30.\n",
    "pay.md": "# Pay\n\nSalaries are paid on the 27th by Zebulonbank.\n",
}
QUESTION = "How many days of paid leave do employees have?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    for name, text in PAGES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "scan.pdf").write_bytes(b"%PDF-1.4 broken")
    return folder


@pytest.fixture
def store(tmp_path: Path, folder: Path) -> Store:
    one = Store(tmp_path / "companies" / "acme", "acme")
    one.set_source("handbook", str(folder), ["everyone"])
    return one


def test_a_sync_shows_what_it_will_change_and_then_changes_just_that(
    store: Store, folder: Path
) -> None:
    before = compare(store, "handbook", folder)
    assert before.new == ("leave.md", "office/hours.md", "pay.md", "scan.pdf")
    assert store.version == 0
    done = sync(store, "handbook", folder)
    assert done.diff == before
    assert list(done.unread) == ["scan.pdf"]
    assert compare(store, "handbook", folder).is_empty
    assert sync(store, "handbook", folder).version == done.version
    (folder / "leave.md").write_text(PAGES["leave.md"].replace("25", "30"))
    (folder / "pay.md").unlink()
    diff = sync(store, "handbook", folder).diff
    assert (diff.new, diff.changed, diff.gone) == ((), ("leave.md",), ("pay.md",))
    assert "30 days" in answer(Retriever(store), QUESTION, None).answer


def test_what_is_deleted_or_changed_in_the_folder_leaves_no_byte(
    store: Store, folder: Path
) -> None:
    sync(store, "handbook", folder)
    assert bytes_with(store.folder, b"Zebulonbank")
    (folder / "pay.md").write_text("# Pay\n\nSalaries are paid on the 27th.\n")
    sync(store, "handbook", folder)
    assert not bytes_with(store.folder, b"Zebulonbank")
    assert not bytes_with(store.folder, b"zebulonbank")


@pytest.mark.parametrize("way", ["document", "source", "company"])
def test_what_is_forgotten_leaves_no_byte(
    store: Store, folder: Path, tmp_path: Path, way: str
) -> None:
    sync(store, "handbook", folder)
    library = Library(tmp_path / "companies")
    if way == "document":
        assert store.forget("handbook", "pay.md") == 1
    elif way == "source":
        assert store.remove_source("handbook") == 4
    else:
        with library.reading("acme") as retriever:
            assert retriever is not None
        assert library.erase("acme")
        with library.reading("acme") as retriever:
            assert retriever is None
    for word in (b"Zebulonbank", b"zebulonbank"):
        assert not bytes_with(tmp_path / "companies", word)
    library.close()


def test_a_removal_that_was_killed_before_its_purge_is_ended_by_the_next_sync(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(store, "handbook", folder)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "purge", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.forget("handbook", "pay.md")
    (folder / "pay.md").unlink()
    sync(store, "handbook", folder)
    assert not bytes_with(store.folder, b"ebulonbank")


@pytest.mark.parametrize("after", range(4))
def test_a_sync_killed_at_any_file_goes_on_where_it_stopped_and_the_old_version_answers(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    sync(store, "handbook", folder)
    for name in PAGES:
        (folder / name).write_text((folder / name).read_text() + "\nMore.\n")
    read: list[str] = []
    real = DocumentReader.read

    def counted(self: DocumentReader, path: Path, name: str | None = None):  # type: ignore[no-untyped-def]
        if len(read) == after:
            raise KeyboardInterrupt
        read.append(str(name))
        return real(self, path, name)

    with monkeypatch.context() as patch:
        patch.setattr(DocumentReader, "read", counted)
        if after < len(PAGES):
            with pytest.raises(KeyboardInterrupt):
                sync(store, "handbook", folder)
            assert store.version == 1
            assert "25 days" in answer(Retriever(store), QUESTION, None).answer
    again: list[str] = []
    monkeypatch.setattr(
        DocumentReader, "read", lambda one, path, name: again.append(name) or real(one, path, name)
    )  # fmt: skip
    assert sync(store, "handbook", folder).version == 2
    assert sorted([*again, *read]) == sorted(PAGES)
    assert not (store.folder / STAGING).exists()


def test_two_syncs_at_once_and_a_folder_that_is_gone_are_refused_in_words(
    store: Store, folder: Path
) -> None:
    with FolderLock(store.folder / LOCK), pytest.raises(StorageError, match="in use"):
        sync(store, "handbook", folder)
    shutil.rmtree(folder)
    with pytest.raises(LearningError, match="not a folder"):
        sync(store, "handbook", folder)


def test_rights_of_a_member_act_on_the_next_question(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    sync(store, "handbook", folder)
    store.set_source("handbook", str(folder), ["hr"])
    source = CompanyKnowledge(tmp_path / "companies")

    def found(user: str | None):  # type: ignore[no-untyped-def]
        evidence = asyncio.run(source.find(QUESTION, [], "acme", user))
        assert evidence is not None
        return evidence

    assert found("ann").refused == "nothing_allowed"
    store.set_reader("ann", ["hr"])
    cited = found("ann").citations[0].passage
    assert found(None).refused == "nothing_allowed"
    identity = cited.id.split("-")[0]
    text = asyncio.run(source.document(identity, "acme", "ann"))
    assert text is not None
    assert text.text[cited.start : cited.end] == cited.text
    assert f"documents/{identity}?company_id=acme" in cited.url
    for user, company in (("bob", "acme"), ("ann", "globex"), ("ann", "../acme")):
        assert asyncio.run(source.document(identity, company, user)) is None
    store.set_reader("ann", [])
    assert found("ann").refused == "nothing_allowed"
    assert asyncio.run(source.find(QUESTION, [], "globex", "ann")) is None
    asyncio.run(source.close())


def test_a_companys_file_is_the_same_whether_others_exist_or_not(
    folder: Path, tmp_path: Path
) -> None:
    def made(root: Path, others: int) -> bytes:
        for number in range(others):
            with Library(root).create(f"other{number}") as other:
                other.set_source("x", "x", ["everyone"])
                sync(other, "x", folder)
        with Library(root).create("acme") as one:
            one.set_source("handbook", "handbook", ["everyone"])
            sync(one, "handbook", folder)
            one.purge()
        return (root / "acme" / "knowledge.db").read_bytes()

    assert made(tmp_path / "alone", 0) == made(tmp_path / "many", 2)


def test_a_company_id_is_no_path(tmp_path: Path) -> None:
    for name in ("..", "../x", "a/b", "", ".hidden", "a" * 65):
        with pytest.raises(LearningError, match="not valid"):
            Library(tmp_path).folder(name)
    with pytest.raises(LearningError, match="company add"):
        Library(tmp_path).store("acme")


def test_a_companys_own_questions_are_counted(store: Store, folder: Path, tmp_path: Path) -> None:
    sync(store, "handbook", folder)
    rows = [
        {"question": QUESTION, "document": "leave.md", "words": ["25 days | twenty-five days"]},
        {"question": "When do we open?", "document": "office/hours.md", "words": ["8:00"]},
        {"question": "Who won the world cup of football?"},
    ]  # fmt: skip
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert add_questions(store, path) == 3
    assert add_questions(store, path) == 0
    asked = questions(store)
    assert asked[2] == Question("Who won the world cup of football?")
    scores = evaluate(Retriever(store), asked)
    assert (scores.recall_1, scores.answer_holds, scores.refused_rightly) == (1.0, 1.0, 1.0)


def bytes_with(folder: Path, word: bytes) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and word in path.read_bytes()]
