"""A deletion says what goes, and no byte of it is left in any file of the company."""

from __future__ import annotations

from pathlib import Path

import pytest

from triptych.durable import FolderLock
from triptych.errors import StorageError
from triptych.learning import deletion
from triptych.learning.company.evaluate import Question, questions, save_questions
from triptych.learning.company.files import file_states
from triptych.learning.company.library import EVERYONE, Library
from triptych.learning.company.sync import LOCK, STAGING, sync

CANARY = "quokkaword"


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "companies")


def uploaded(library: Library, *, inside: bool = True) -> Path:
    """Return the folder of a synced source with two documents, one of which holds the canary."""
    with library.create("acme") as store:
        folder = (store.folder if inside else library.root.parent) / "uploads"
        folder.mkdir(parents=True)
        (folder / "secret.md").write_text(f"# Secret\n\nThe word is {CANARY} and nothing else.")
        (folder / "leave.md").write_text("# Leave\n\nEvery employee has 25 days of leave a year.")
        (folder / "empty.bin").write_bytes(b"\0\1\2" * 50)
        store.set_source("uploads", str(folder), [EVERYONE])
        sync(store, "uploads", folder)
        save_questions(store, [
            Question(f"What is the {CANARY}?", "secret.md", (CANARY,)),
            Question("How many days of leave?", "leave.md", ("25 days",)),
        ])  # fmt: skip
        (store.folder / STAGING).mkdir()
        (store.folder / STAGING / "left.json").write_text(CANARY)
    return folder


def holding(root: Path) -> list[str]:
    return [
        str(path) for path in root.rglob("*")
        if path.is_file() and CANARY.encode() in path.read_bytes()
    ]  # fmt: skip


def test_a_deleted_upload_leaves_no_byte_and_no_question(library: Library, tmp_path: Path) -> None:
    folder = uploaded(library)
    with library.store("acme") as store:
        found = deletion.of_document(store, "uploads", "secret.md", tmp_path / "patterns")
        assert found == deletion.Deletion(1, 1, 1, ())
        assert holding(library.root)
        deletion.delete_document(store, "uploads", "secret.md", tmp_path / "patterns")
        assert [one.document for one in questions(store)] == ["leave.md"]
        assert deletion.of_document(store, "uploads", "secret.md", tmp_path) is None
        sync(store, "uploads", folder)
    assert holding(library.root) == []


def test_a_file_in_a_folder_elsewhere_stays_and_is_said_to_come_back(
    library: Library, tmp_path: Path
) -> None:
    folder = uploaded(library, inside=False)
    with library.store("acme") as store:
        found = deletion.delete_document(store, "uploads", "secret.md", tmp_path / "patterns")
    assert found is not None and found.comes_back
    assert (folder / "secret.md").exists() and holding(library.root) == []


def test_nothing_is_deleted_while_a_sync_runs(library: Library, tmp_path: Path) -> None:
    uploaded(library)
    with library.store("acme") as store, FolderLock(store.folder / LOCK):
        with pytest.raises(StorageError):
            deletion.delete_document(store, "uploads", "secret.md", tmp_path / "patterns")
        assert deletion.of_document(store, "uploads", "secret.md", tmp_path / "patterns")


def test_a_deleted_company_is_gone_whole(library: Library, tmp_path: Path) -> None:
    uploaded(library)
    with library.store("acme") as store:
        found = deletion.of_company(store, tmp_path / "patterns")
    assert (found.documents, found.questions) == (3, 2)
    assert deletion.delete_company(library, "acme", tmp_path / "patterns")
    assert not deletion.delete_company(library, "acme", tmp_path / "patterns")
    assert library.companies() == [] and holding(library.root) == []


def test_files_that_were_not_read_come_first_with_their_reason(library: Library) -> None:
    uploaded(library)
    with library.store("acme") as store:
        states = file_states(store)
    assert [(one.document.name, one.state) for one in states] == [
        ("empty.bin", "not read"), ("leave.md", "read"), ("secret.md", "read"),
    ]  # fmt: skip
    assert states[0].why and states[1].passages == 1
