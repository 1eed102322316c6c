"""A published corpus is what was built, loads with `datasets`, and says where it came from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from triptych.errors import PublishRefused
from triptych.hub.client import Hub
from triptych.hub.publish_data import data_card, publish_data
from triptych.hub.repository import Repo

Fresh = Callable[..., Repo]

LOAD = """
import json, sys
from datasets import load_dataset
whole = load_dataset(sys.argv[1])
streamed = load_dataset(sys.argv[1], split="train", streaming=True)
print(json.dumps({
    "splits": {name: len(part) for name, part in whole.items()},
    "columns": whole["train"].column_names,
    "first": whole["train"][0]["text"],
    "streamed": next(iter(streamed))["text"],
}))
"""


@pytest.fixture
def manifest(corpus: Path) -> dict[str, object]:
    return json.loads((corpus / "manifest.json").read_text())


def test_the_unmodified_datasets_library_loads_it_whole_and_streaming(
    client: Hub, fresh: Fresh, corpus: Path, tmp_path: Path
) -> None:
    repo = fresh("dataset")
    publish_data(client, corpus, repo, license="cc-by-4.0")
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, repo.repo_id],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])

    rows = pq.read_table(corpus / "documents" / "train.parquet")
    held_out = pq.read_table(corpus / "documents" / "val.parquet")
    assert loaded["splits"] == {"train": len(rows), "validation": len(held_out)}
    assert loaded["columns"] == rows.column_names
    assert loaded["first"] == loaded["streamed"] == rows["text"][0].as_py()


def test_publishing_again_commits_nothing_and_the_shards_stay_home(
    client: Hub, fresh: Fresh, corpus: Path
) -> None:
    repo = fresh("dataset")
    first = publish_data(client, corpus, repo, license="mit", tag="v1")
    again = publish_data(client, corpus, repo, license="mit", tag="v1")

    assert (first.committed, again.committed) == (True, False)
    assert first.commit == again.commit == client.tags(repo)["v1"]
    names = set(client.tree(repo, first.commit))
    assert {"manifest.json", "documents/train.parquet", "tokenizer/tokenizer.json"} <= names
    assert not [name for name in names if name.endswith(".bin")]


def test_the_hubs_own_reader_finds_the_splits_and_the_licence(
    manifest: dict[str, object],
) -> None:
    text = data_card(manifest, Repo("acme/tales", "dataset"), "mit", ("en",))
    data = DatasetCard(text).data

    assert (data.license, data.language) == ("mit", ["en"])
    assert data.size_categories == ["n<1K"]
    (config,) = data.to_dict()["configs"]
    assert {entry["split"] for entry in config["data_files"]} == {"train", "validation"}
    assert str(manifest["fingerprint"]) in text


def test_documents_without_a_licence_are_not_made_public_by_accident(
    client: Hub, fresh: Fresh, corpus: Path
) -> None:
    repo = fresh("dataset")
    with pytest.raises(PublishRefused, match="no known licence"):
        publish_data(client, corpus, repo)
    assert not client.exists(repo)
    assert publish_data(client, corpus, repo, private=True).committed


def test_no_folder_of_this_machine_is_published(client: Hub, fresh: Fresh, corpus: Path) -> None:
    repo = fresh("dataset")
    published = publish_data(client, corpus, repo, license="mit")
    for name in ("README.md", "manifest.json"):
        assert str(corpus.parents[1]) not in client.read(repo, name, published.commit).decode()


@pytest.mark.parametrize("damage", ["manifest.json", "documents/train.parquet"])
def test_a_folder_that_is_no_whole_corpus_is_refused(
    client: Hub, fresh: Fresh, corpus: Path, tmp_path: Path, damage: str
) -> None:
    copied = tmp_path / "corpus"
    shutil.copytree(corpus, copied)
    (copied / damage).unlink()
    with pytest.raises(PublishRefused):
        publish_data(client, copied, fresh("dataset"), license="mit")


def test_the_command_prints_the_commit(
    client: Hub, fresh: Fresh, corpus: Path, triptych: Any
) -> None:
    repo = fresh("dataset")
    done = triptych("publish-data", str(corpus), repo.repo_id, "--license", "mit")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"datasets/{repo.repo_id}@{client.head(repo)}"
