"""Publishing to a real hub: whole, verified, once; and what others load is what was trained."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from triptych.errors import CommitConflict, PublishRefused, RepositoryNotFound, UsageError
from triptych.hub.cards import CURVE_FILE, EVAL_FILE, RECORD_FILE, Labels
from triptych.hub.client import Hub
from triptych.hub.publish import (
    DEFAULT_NAME,
    Options,
    check_parity,
    name_repository,
    publish,
    publish_milestones,
)
from triptych.hub.pull import is_repository, pull
from triptych.hub.record import Record, milestones, model_files, read_record
from triptych.hub.repository import Repo

Fresh = Callable[..., Repo]


@pytest.fixture
def checkpoint(run_folder: Path) -> Path:
    return run_folder / "checkpoints" / "step-00000008"


def test_a_published_checkpoint_loads_elsewhere_with_the_same_logits(
    client: Hub, fresh: Fresh, checkpoint: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from triptych.lm.model.checkpoint import load_model

    published = publish(client, checkpoint, fresh(), None, Options(Labels("apache-2.0")))
    folder = pull(f"{published.repo}@{published.commit}", client)

    assert folder.name == published.commit
    ours, theirs = load_model(folder), AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("The 3. story", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, load_model(checkpoint)(ids))
        assert torch.equal(ours(ids), load_model(checkpoint)(ids))


def test_g7_what_is_published_is_the_model_its_card_and_its_record(
    client: Hub, fresh: Fresh, checkpoint: Path
) -> None:
    repo = fresh()
    published = publish(client, checkpoint, repo, None, Options(Labels(dataset="acme/tales")))
    tree = client.tree(repo, published.commit)

    documents = {"README.md", RECORD_FILE, CURVE_FILE, EVAL_FILE, "manifest.json"}
    assert set(tree) - {".gitattributes"} == set(model_files(checkpoint)) | documents
    assert tree["model.safetensors"].sha256 is not None
    record = json.loads(client.read(repo, RECORD_FILE, published.commit))
    assert record["weights"]["sha256"]["model.safetensors"] == tree["model.safetensors"].sha256


def test_g7_publishing_again_commits_nothing(client: Hub, fresh: Fresh, checkpoint: Path) -> None:
    repo = fresh()
    first = publish(client, checkpoint, repo, None, Options(tag="v1"))
    again = publish(client, checkpoint, repo, None, Options(tag="v1"))

    assert first.committed
    assert not again.committed
    assert again.commit == first.commit
    assert client.tags(repo) == {"v1": first.commit}


def test_another_checkpoint_replaces_the_files_of_the_one_before(
    client: Hub, fresh: Fresh, run_folder: Path, tmp_path: Path
) -> None:
    repo = fresh()
    labelled = Options(Labels(dataset="acme/tales"))
    found = milestones(run_folder)
    publish(client, found[4], repo, None, labelled)
    client.commit(repo, {"model-00001-of-00002.safetensors": b"an older shard"}, "Shard")
    published = publish(client, found[8], repo, None, Options(tag="v2"))

    tree = client.tree(repo, published.commit)
    assert "model-00001-of-00002.safetensors" not in tree
    assert EVAL_FILE not in tree  # it named a dataset that this publication does not
    with pytest.raises(CommitConflict, match="v2"):
        publish(client, found[4], repo, None, Options(tag="v2"))


def test_a_private_repository_is_private(
    client: Hub, fresh: Fresh, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = fresh()
    publish(client, checkpoint, repo, None, Options(private=True))
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("HF_ENDPOINT")
    with pytest.raises(RepositoryNotFound):
        Hub(client.endpoint).head(repo)


def test_a_public_repository_is_not_taken_for_a_private_one(
    client: Hub, fresh: Fresh, run_folder: Path
) -> None:
    repo = fresh()
    found = milestones(run_folder)
    public = publish(client, found[4], repo, None)
    with pytest.raises(PublishRefused, match="is public"):
        publish(client, found[8], repo, None, Options(private=True))
    assert client.head(repo) == public.commit


def test_the_gate_measures_what_is_uploaded_in_a_fresh_process(
    client: Hub, fresh: Fresh, run_folder: Path, triptych: Any
) -> None:
    repo = fresh()
    done = triptych("publish", str(run_folder), repo.repo_id, "--license", "mit", "--json")
    assert done.returncode == 0, done.stderr
    published = json.loads(done.stdout)

    assert published["verified"] is True
    assert published["commit"] == client.head(repo)
    evaluation = read_record(run_folder / "checkpoints" / "step-00000008").evaluation
    assert evaluation is not None
    assert published["loss"] == round(evaluation.loss, 4)


@pytest.mark.prove
def test_g7_weights_that_do_not_reproduce_the_record_are_not_published(
    client: Hub, fresh: Fresh, run_folder: Path, tmp_path: Path, triptych: Any
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run_folder, copied)
    found = milestones(copied)
    shutil.copy(found[4] / "model.safetensors", found[8] / "model.safetensors")
    repo = fresh()

    done = triptych("publish", str(found[8]), repo.repo_id)

    assert done.returncode == 1
    assert "does not reproduce its record" in done.stderr
    assert not client.exists(repo)


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        ("raise SystemExit('torn weights')", "torn weights"),
        ("print('no json')", "printed no loss"),
        ('print(\'{"loss": NaN, "bpb": 1.0}\')', "loss is nan"),
        ('print(\'{"loss": 0.5, "bpb": 1.0}\')', "does not reproduce"),
    ],
)
def test_a_gate_that_fails_says_why(checkpoint: Path, program: str, complaint: str) -> None:
    with pytest.raises(PublishRefused, match=complaint):
        check_parity([sys.executable, "-c", program], read_record(checkpoint))


def test_without_the_corpus_publishing_asks_for_it(
    endpoint: str, client: Hub, fresh: Fresh, checkpoint: Path, tmp_path: Path, triptych: Any
) -> None:
    alone = tmp_path / "model"
    shutil.copytree(checkpoint, alone)
    repo = fresh()
    refused = triptych("publish", str(alone), repo.repo_id)
    assert refused.returncode == 1
    assert "--data" in refused.stderr
    done = triptych("publish", str(alone), repo.repo_id, "--no-gate")
    assert done.returncode == 0
    assert done.stdout.strip() == f"{repo.repo_id}@{client.head(repo)}"


def test_milestones_become_revisions_of_one_repository(
    client: Hub, fresh: Fresh, run_folder: Path
) -> None:
    repo = fresh()
    found = milestones(run_folder)
    later = publish_milestones(client, {8: found[8]}, lambda _: repo, None, Options(tag="step-8"))
    both = publish_milestones(client, found, lambda _: repo, None)

    assert client.tags(repo) == {"step-4": both[0].commit, "step-8": later[0].commit}
    assert not both[1].committed
    weights = {s: read_record(f).weights.files["model.safetensors"] for s, f in found.items()}
    for step, digest in weights.items():
        tree = client.tree(repo, client.head(repo, f"step-{step}"))
        assert tree["model.safetensors"].sha256 == digest
    # The branch ends at the newest milestone, also when an earlier one came later.
    assert client.tree(repo, client.head(repo))["model.safetensors"].sha256 == weights[8]

    head = client.head(repo)
    publish_milestones(client, found, lambda _: repo, None)
    assert client.head(repo) == head


def test_a_tag_with_other_weights_is_not_taken_for_this_runs(
    client: Hub, fresh: Fresh, run_folder: Path
) -> None:
    repo = fresh()
    found = milestones(run_folder)
    publish(client, found[4], repo, None, Options(tag="step-8"))
    with pytest.raises(CommitConflict, match="other weights"):
        publish_milestones(client, found, lambda _: repo, None)


def test_milestones_become_repositories_where_their_names_differ(
    client: Hub, fresh: Fresh, run_folder: Path, triptych: Any
) -> None:
    stem = fresh().repo_id
    pattern = f"{stem}-{{steps}}"
    each = ("--milestones", "4,8", "--no-gate", "--json")
    done = triptych("publish", str(run_folder), pattern, *each)
    assert done.returncode == 0, done.stderr
    assert [entry["repo"] for entry in json.loads(done.stdout)] == [f"{stem}-4", f"{stem}-8"]
    assert client.exists(Repo(f"{stem}-4"))


def test_a_milestone_that_was_not_kept_is_named(run_folder: Path, triptych: Any) -> None:
    done = triptych("publish", str(run_folder), "acme/tale", "--milestones", "4,6", "--no-gate")
    assert done.returncode == 2
    assert "no checkpoint of step 6" in done.stderr


@pytest.mark.parametrize(
    ("step", "pattern", "name"),
    [
        (4000, DEFAULT_NAME, "acme/tale-{size}-4k"),
        (10_000, DEFAULT_NAME, "acme/tale-{size}-10k"),
        (500, DEFAULT_NAME, "acme/tale-{size}-500"),
        (10_000, "acme/base", "acme/base"),
    ],
)
def test_repositories_are_named_by_the_originals_pattern(
    checkpoint: Path, step: int, pattern: str, name: str
) -> None:
    record = read_record(checkpoint)
    grown = Record(record.folder, record.shape, record.weights, step=step)
    size = name_repository("a/{size}", grown).repo_id.removeprefix("a/")
    named = name_repository(pattern, grown, org="acme", family="tale")
    assert named.repo_id == name.replace("{size}", size)


@pytest.mark.parametrize("pattern", [DEFAULT_NAME, "{nobody}/x", "{0}/x", "{org"])
def test_a_name_that_cannot_be_filled_is_a_usage_error(checkpoint: Path, pattern: str) -> None:
    with pytest.raises(UsageError):
        name_repository(pattern, read_record(checkpoint))


def test_pull_takes_the_model_and_leaves_pickles_behind(
    client: Hub, fresh: Fresh, checkpoint: Path
) -> None:
    repo = fresh()
    published = publish(client, checkpoint, repo, None)
    pickles: dict[str, Any] = {"pytorch_model.bin": b"pickle", "optimizer.safetensors": b"state"}
    client.commit(repo, pickles, "Add what is not loaded")

    folder = pull(repo.repo_id, client)
    assert not {"pytorch_model.bin", "optimizer.safetensors"} & {f.name for f in folder.iterdir()}
    assert (pull(repo.repo_id, client, everything=True) / "pytorch_model.bin").exists()
    assert pull(f"{repo.repo_id}@{published.commit}", client).name == published.commit


def test_what_was_pulled_by_commit_is_there_without_a_network(
    client: Hub, fresh: Fresh, checkpoint: Path
) -> None:
    repo = fresh()
    published = publish(client, checkpoint, repo, None)
    reference = f"{repo.repo_id}@{published.commit}"
    folder = pull(reference, client)

    gone = Hub("http://127.0.0.1:1", "hf_none")
    assert pull(reference, gone) == folder


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("acme/base", True),
        ("acme/base@v1", True),
        ("hf://acme/base", True),
        ("./model", False),
        ("../model", False),
        ("/tmp/model", False),
        ("~/model", False),
        ("model", False),
        ("a/b/c", False),
    ],
)
def test_a_repository_reference_is_told_from_a_path(text: str, is_one: bool) -> None:
    assert is_repository(text) is is_one
