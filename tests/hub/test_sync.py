"""Sync against a real hub: exactly what the manifest says, one commit, no drift unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from huggingface_hub import HfApi

from triptych.errors import CommitConflict, SyncDrift, UsageError
from triptych.hub import sync
from triptych.hub.client import Hub
from triptych.hub.manifest import STAMP, Manifest, Target, load_manifest, read_source
from triptych.hub.repository import Repo

OWN = {"app.py": b"print('own')\n", "README.md": b"---\nsdk: gradio\n---\nown\n"}


class Fixture:
    """The original mapping, from a checkout into a Space of a real hub."""

    def __init__(self, hub: Hub, checkout: Any, org: str, target: Repo) -> None:
        self.hub = hub
        self.checkout = checkout
        text = (checkout.root / "sync.toml").read_text()
        checkout.write("sync.toml", text.replace("{org}/openllm", target.repo_id))
        checkout.commit("Name the target")
        self.repo = target
        self.org = org

    @property
    def manifest(self) -> Manifest:
        return load_manifest(self.checkout.root / "sync.toml", org=self.org)

    @property
    def target(self) -> Target:
        return self.manifest.targets[0]

    def plan(self, **options: Any) -> sync.Plan:
        source = read_source(self.checkout.root)
        return sync.plan(self.hub, self.manifest, self.target, source, **options)

    def apply(self, *, force: bool = False, **options: Any) -> str:
        source = read_source(self.checkout.root)
        return sync.apply(self.hub, self.plan(**options), source, force=force)

    def foreign_commit(self, changes: dict[str, bytes | None]) -> str:
        return self.hub.commit(self.repo, changes, "By another hand")

    def synced(self) -> dict[str, bytes]:
        head = self.hub.head(self.repo)
        return {
            path: self.hub.read(self.repo, path, head)
            for path in self.hub.tree(self.repo, head)
            if path != ".gitattributes"
        }


@pytest.fixture
def original(client: Hub, checkout: Any, fresh: Callable[..., Repo]) -> Fixture:
    return Fixture(client, checkout, client.whoami(), fresh("space"))


def test_the_original_mapping_arrives_whole_in_one_commit(original: Fixture) -> None:
    planned = original.plan()
    assert planned.head is None
    assert set(planned.changes.added) == set(original.checkout.expected)

    commit = original.apply()

    files = original.synced()
    stamp = json.loads(files.pop(STAMP))
    files.pop("README.md", None)
    assert {p: original.checkout.root / s for p, s in original.checkout.expected.items()} == {
        p: original.checkout.root / f["source"] for p, f in stamp["files"].items()
    }
    for path, source in original.checkout.expected.items():
        assert files[path] == (original.checkout.root / source).read_bytes()
    head = original.checkout.git("rev-parse", "HEAD")
    api = HfApi(endpoint=original.hub.endpoint)
    (newest, *_) = api.list_repo_commits(original.repo.repo_id, repo_type="space")
    assert newest.commit_id == commit
    assert head in newest.message
    assert newest.title.startswith(f"Sync {head[:12]}: ")
    assert stamp["source_commit"] == head
    assert original.plan().in_step


def test_applying_again_commits_nothing(original: Fixture) -> None:
    commit = original.apply()
    original.checkout.write("docs/guide.md", "never synced, so nothing to do\n")
    original.checkout.commit("Write docs")
    assert original.apply() == commit


def test_changes_and_deletions_of_the_checkout_follow_and_own_files_stay(
    original: Fixture,
) -> None:
    original.apply()
    original.foreign_commit(OWN)
    original.checkout.write("core/src/model.py", "changed\n")
    original.checkout.git("rm", "-q", "core/src/train_tokenizer.py")
    original.checkout.write("core/src/new.py", "new\n")
    original.checkout.commit("Move on")

    changes = original.plan().changes
    assert changes.added == ("training/new.py",)
    assert changes.changed == ("training/model.py",)
    assert changes.deleted == ("training/train_tokenizer.py",)
    original.apply()

    files = original.synced()
    assert files["training/model.py"] == b"changed\n"
    assert "training/train_tokenizer.py" not in files
    assert {path: files[path] for path in OWN} == OWN


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"training/model.py": b'"""The original model."""\r'}, "changed by another hand"),
        ({"training/model.py": None}, "deleted by another hand"),
        ({"training/stray.py": b""}, "added by another hand"),
    ],
)
def test_another_hand_is_seen_named_and_not_overwritten_unless_told(
    original: Fixture, change: dict[str, bytes | None], what: str
) -> None:
    original.apply()
    original.foreign_commit(change)
    (path,) = change

    planned = original.plan()
    assert planned.foreign == {path: what}
    assert not planned.in_step
    with pytest.raises(SyncDrift, match=path):
        original.apply()
    original.apply(force=True)
    assert original.plan().in_step


def test_a_change_brought_into_the_checkout_is_no_longer_foreign(original: Fixture) -> None:
    original.apply()
    original.foreign_commit({"training/model.py": b"repaired there\n"})
    original.checkout.write("core/src/model.py", "repaired there\n")
    original.checkout.commit("Take over the repair")

    planned = original.plan()
    assert not planned.foreign
    assert not planned.changes
    assert not planned.in_step  # its stamp is still the old one
    original.apply()
    assert original.plan().in_step


def test_a_stamp_edited_by_another_hand_is_drift(original: Fixture) -> None:
    original.apply()
    stamp = original.synced()[STAMP]
    original.foreign_commit({STAMP: stamp.replace(b"\n}", b" \n}")})
    assert original.plan().foreign == {STAMP: "changed by another hand"}


def test_files_from_before_the_first_sync_are_not_overwritten_silently(
    original: Fixture,
) -> None:
    original.hub.create(original.repo, sdk="gradio")
    original.foreign_commit({"training/model.py": b"older\n", "training/old.py": b"older\n"})

    assert set(original.plan().foreign) == {"training/model.py", "training/old.py"}
    with pytest.raises(SyncDrift):
        original.apply()
    original.apply(force=True)
    assert "training/old.py" not in original.synced()


def test_a_commit_between_plan_and_apply_is_a_conflict(original: Fixture) -> None:
    original.apply()
    original.checkout.write("core/src/model.py", "changed\n")
    original.checkout.commit("Change")
    source = read_source(original.checkout.root)
    planned = original.plan()
    original.foreign_commit({"app.py": b"own\n"})

    with pytest.raises(CommitConflict):
        sync.apply(original.hub, planned, source)


def test_a_dirty_checkout_is_refused_unless_told(original: Fixture) -> None:
    original.checkout.write("core/src/model.py", "not committed\n")
    with pytest.raises(UsageError, match=r"core/src/model\.py"):
        original.plan()
    original.apply(dirty=True)

    files = original.synced()
    assert files["training/model.py"] == b"not committed\n"
    assert json.loads(files[STAMP])["source_commit"].endswith("-dirty")


def test_an_untracked_file_counts_only_where_it_would_be_synced(original: Fixture) -> None:
    original.checkout.write("notes.txt", "mine\n")
    original.plan()
    original.checkout.write("core/src/new.py", "not committed\n")
    with pytest.raises(UsageError, match=r"core/src/new\.py"):
        original.plan()


def test_rolling_back_restores_the_synced_files_and_spares_the_own_ones(
    original: Fixture,
) -> None:
    original.apply()
    before = original.synced()
    original.checkout.write("core/src/model.py", "broken\n")
    original.checkout.write("core/src/new.py", "new\n")
    original.checkout.commit("Break it")
    original.apply()
    original.foreign_commit(OWN)

    sync.roll_back(original.hub, original.target)

    after = original.synced()
    assert {path: after[path] for path in before if path not in OWN} == {
        path: content for path, content in before.items() if path not in OWN
    }
    assert "training/new.py" not in after
    assert {path: after[path] for path in OWN} == OWN
    assert original.plan().changes.changed == ("training/model.py",)
    assert not original.plan().foreign


def test_rolling_back_the_first_sync_leaves_what_was_there_before(original: Fixture) -> None:
    original.hub.create(original.repo, sdk="gradio")
    original.foreign_commit(OWN)
    before = original.synced()
    original.apply()
    sync.roll_back(original.hub, original.target)

    assert original.synced() == before
    with pytest.raises(UsageError, match="no sync"):
        sync.roll_back(original.hub, original.target)


def test_the_command_plans_applies_checks_and_rolls_back(original: Fixture, triptych: Any) -> None:
    def sync_command(*words: str) -> Any:
        return triptych("sync", *words, folder=original.checkout.root)

    planned = sync_command("plan", "--json")
    assert len(json.loads(planned.stdout)[0]["add"]) == 8
    assert sync_command("check").returncode == 1

    applied = json.loads(sync_command("apply", "--json").stdout)
    assert applied[0]["committed"] is True
    assert sync_command("check").returncode == 0

    original.foreign_commit({"training/model.py": b'"""The original model."""\r'})
    drifted = sync_command("check")
    assert drifted.returncode == 1
    assert "! training/model.py: changed by another hand" in drifted.stdout
    refused = sync_command("apply")
    assert refused.returncode == 1
    assert "--force" in refused.stderr

    assert sync_command("rollback").returncode == 2
    assert sync_command("rollback", str(original.repo), "--force").returncode == 0
    assert not [path for path in original.synced() if path.startswith("training/")]
    assert sync_command("plan", "spaces/acme/unknown").returncode == 2
