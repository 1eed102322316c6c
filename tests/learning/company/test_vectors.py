"""Passages found by meaning: rights hold, deletion reaches the file, late passages are added."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_bert import save_small_bert

from triptych.durable import FolderLock
from triptych.errors import LearningError
from triptych.learning.company import corrections, vector_file
from triptych.learning.company.answer import answer
from triptych.learning.company.library import Library
from triptych.learning.company.retrieval import Retriever
from triptych.learning.company.store import Store
from triptych.learning.company.sync import sync
from triptych.learning.company.vectors import embedder_name, set_embedder, vectors_of

TEXTS = {
    "leave.md": "# Leave\nEvery employee has 25 days of paid leave a year.\n",
    "travel.md": "# Travel\nTrains are booked by the office in Basel.\n",
    "pay.md": "# Pay\nSalaries are paid on the 25th of each month.\n",
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = (text.replace("#", "") for text in TEXTS.values())
    return save_small_bert(tmp_path_factory.mktemp("bert"), words, width=16, layers=1)


@pytest.fixture
def store(tmp_path: Path, encoder: Path) -> Store:
    folder = tmp_path / "documents"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    store = Library(tmp_path / "companies").create("acme")
    store.set_source("documents", str(folder), ["everyone"])
    set_embedder(store, str(encoder))
    sync(store, "documents", folder)
    return store


def rows(store: Store) -> tuple[np.ndarray, np.ndarray]:
    vectors = vectors_of(store)
    assert vectors is not None
    return vector_file.read(vectors.path)


def test_a_sync_gives_every_passage_a_unit_vector_and_a_second_one_changes_nothing(
    store: Store,
) -> None:
    ids, table = rows(store)
    assert sorted(ids.tolist()) == [1, 2, 3]
    assert np.allclose(np.linalg.norm(table, axis=1), 1, atol=1e-5)
    (path,) = store.folder.glob("vectors-*.npy")
    before = path.read_bytes()
    sync(store, "documents", Path(store.sources()["documents"][0]))
    assert path.read_bytes() == before


def test_a_question_without_a_word_of_the_text_still_finds_passages(store: Store) -> None:
    ranked, _ = Retriever(store).find("holiday entitlement", frozenset(("everyone",)))
    assert len(ranked) == 3
    assert all(one.cosine is not None for one in ranked)


def test_what_may_not_be_read_is_never_found_by_meaning(store: Store) -> None:
    store.set_document_groups("documents", "pay.md", ["finance"])
    found = {
        one.passage.document
        for question in ("holiday", "Salaries paid", "money")
        for one in Retriever(store).find(question, frozenset(("everyone",)))[0]
    }
    assert found == {"leave.md", "travel.md"}
    store.set_source("documents", "x", ["board"])
    assert Retriever(store).find("holiday", frozenset(("everyone",)))[0] == []


def test_a_deleted_document_leaves_no_vector(store: Store) -> None:
    ids, table = rows(store)
    gone = np.asarray(table)[ids == 1].tobytes()
    (path,) = store.folder.glob("vectors-*.npy")
    assert gone in np.asarray(table).tobytes()
    store.forget("documents", "leave.md")
    ids, table = rows(store)
    assert 1 not in ids and len(ids) == 2
    assert gone not in path.read_bytes()


def test_a_correction_gets_its_vector_with_the_next_question(store: Store) -> None:
    corrections.put(store, "c1", "How many days of leave?", "26 days.", asker="ann", at=0.0)
    assert 4 not in rows(store)[0]
    evidence = answer(Retriever(store), "How many days of leave?", frozenset(("everyone",)))
    assert "26 days" in evidence.answer
    assert 4 in rows(store)[0]


def test_a_torn_file_is_made_anew_and_words_answer_meanwhile(store: Store) -> None:
    (path,) = store.folder.glob("vectors-*.npy")
    path.write_bytes(path.read_bytes()[:100])
    retriever = Retriever(store)
    assert retriever.find("paid leave", frozenset(("everyone",)))[0]
    assert len(rows(store)[0]) == 3


def test_switched_off_it_leaves_no_vector_and_uses_words_alone(store: Store) -> None:
    set_embedder(store, "")
    assert embedder_name(store) == ""
    assert list(store.folder.glob("vectors-*")) == []
    ranked, _ = Retriever(store).find("paid leave", frozenset(("everyone",)))
    assert ranked[0].cosine is None


def test_a_model_that_is_not_here_is_refused_with_the_command_to_type(store: Store) -> None:
    with pytest.raises(LearningError) as refused:
        set_embedder(store, "pypi:no-such-model")
    assert "triptych pull pypi:no-such-model" in (refused.value.hint or "")


def test_the_vectors_of_a_company_are_the_same_whether_others_exist(
    store: Store, tmp_path: Path, encoder: Path
) -> None:
    alone = Library(tmp_path / "alone").create("acme")
    alone.set_source("documents", "x", ["everyone"])
    set_embedder(alone, str(encoder))
    other = Library(tmp_path / "companies").create("globex")
    set_embedder(other, str(encoder))
    sync(alone, "documents", tmp_path / "documents")
    assert [path.read_bytes() for path in alone.folder.glob("vectors-*.npy")] == [
        path.read_bytes() for path in store.folder.glob("vectors-*.npy")
    ]


def test_a_question_while_vectors_are_written_is_answered_from_words(store: Store) -> None:
    corrections.put(store, "c1", "How many days of leave?", "26 days.", asker="ann", at=0.0)
    with FolderLock(store.folder / "vectors.lock"):
        ranked, _ = Retriever(store).find("days of leave", frozenset(("everyone",)))
        assert ranked and ranked[0].cosine is None
    assert Retriever(store).find("days of leave", frozenset(("everyone",)))[0][0].cosine is not None
