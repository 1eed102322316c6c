"""A dataset on the hub is a source like any other, streamed row by row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from triptych.hub.client import Hub
from triptych.hub.publish_data import publish_data
from triptych.hub.repository import Repo


@pytest.fixture
def published(client: Hub, fresh: Callable[..., Repo], corpus: Path) -> str:
    repo = fresh("dataset")
    publish_data(client, corpus, repo, license="cc-by-4.0")
    return repo.repo_id


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `triptych data build` in a process that meets the hub for the first time."""

    def run(source: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "triptych", "data", "build", source, *options]
        settings = ["--vocab-size", "300", "--json", "--out", str(tmp_path / "out")]
        return subprocess.run(
            [*command, *settings],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HF_HOME": str(tmp_path / "hf"), **environment},
        )

    return run


def test_a_dataset_is_built_into_a_corpus(
    build: Callable[..., subprocess.CompletedProcess[str]],
    published: str,
    corpus: Path,
    tmp_path: Path,
) -> None:
    done = build(published)
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)
    source = pq.read_table(corpus / "documents" / "train.parquet")
    assert manifest["sources"][0]["source"] == published
    assert manifest["sources"][0]["documents"] == len(source)
    assert manifest["licences"] == {"cc-by-4.0": len(source)}


@pytest.mark.parametrize(
    ("suffix", "options", "said"),
    [
        (":default:nosuch", [], "nosuch"),
        ("@nosuch", [], "nosuch"),
        ("", ["--text-column", "texts"], "its columns are text, source, licence, split"),
        ("x", [], "cannot read dataset"),
    ],
    ids=["split", "revision", "column", "dataset"],
)
def test_what_does_not_exist_is_named(
    build: Callable[..., subprocess.CompletedProcess[str]],
    published: str,
    tmp_path: Path,
    suffix: str,
    options: list[str],
    said: str,
) -> None:
    done = build(published + suffix, *options)
    assert done.returncode == 1
    assert said in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.prove
def test_a_hub_that_is_away_is_told_as_such(
    build: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = build("owner/name", HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_DISABLE_RETRY="1")
    assert done.returncode == 3, done.stderr
    assert "HF_ENDPOINT" in done.stderr
