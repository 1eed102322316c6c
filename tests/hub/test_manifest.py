"""The sync manifest maps exactly what it says, and reports every mistake in it at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from triptych.errors import ConfigError, UsageError
from triptych.hub.manifest import Rule, load_manifest, matches_any, read_source
from triptych.hub.repository import Repo, split_revision


def test_the_original_mapping_takes_the_sources_and_configs_and_nothing_else(
    checkout: Any,
) -> None:
    manifest = load_manifest(checkout.root / "sync.toml", org="acme")
    (target,) = manifest.targets

    assert target.repo == Repo("acme/openllm", "space")
    assert manifest.files(target, read_source(checkout.root)) == checkout.expected
    assert target.owns("app.py")
    assert target.owns("models/small/config.json")
    assert target.manages("training/stale.py")
    assert not target.manages("scripts/other.py")


@pytest.mark.parametrize(
    ("source", "target", "path", "goal"),
    [
        ("core/src/*.py", "training/*.py", "core/src/model.py", "training/model.py"),
        ("core/src/*.py", "training/*.py", "core/src/deep/model.py", None),
        ("core/src/*.py", "training/*.py", "core/src/model.pyc", None),
        ("triptych/**", "lib/**", "triptych/lm/model/config.py", "lib/lm/model/config.py"),
        ("a/**/*.md", "b/**/*.md", "a/x/y/z.md", "b/x/y/z.md"),
        ("a/**/*.md", "b/**/*.md", "a/z.md", "b/z.md"),
        ("LICENSE", "LICENSE.txt", "LICENSE", "LICENSE.txt"),
        ("v?.json", "version-?.json", "v2.json", "version-2.json"),
        ("a+(b)/*", "c/*", "a+(b)/d", "c/d"),
    ],
)  # fmt: skip
def test_a_rule_repeats_on_the_right_what_its_wildcards_matched_on_the_left(
    source: str, target: str, path: str, goal: str | None
) -> None:
    assert Rule(source, target).map(path) == goal


def test_globs_do_not_cross_folders_unless_they_say_so() -> None:
    assert matches_any("data/raw/a.json", ["data/**"])
    assert not matches_any("data/raw/a.json", ["data/*"])
    assert not matches_any("metadata/a.json", ["data/**"])


def test_every_mistake_in_a_manifest_is_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "sync.toml"
    file.write_text(
        """
        format_version = 1
        nevr = []
        [[target]]
        repo = "spaces/acme/a"
        files = { "src/*.py" = "training/model.py", "x" = "../x", "y" = "/y" }
        [[target]]
        files = {}
        [[target]]
        repo = "spaces/acme/b"
        own = "models/**"
        smoke = 1
        files = { "x" = 1 }
        """,
    )
    with pytest.raises(ConfigError) as caught:
        load_manifest(file)
    for part in (
        "'nevr'", "same wildcards", "'../x'", "'/y'", "repo is missing", "files is",
        "own must be a list", "smoke must be text", "'x' must name a target path, not 1",
    ):  # fmt: skip
        assert part in str(caught.value)


@pytest.mark.parametrize("text", ["target = 3", "target = [3]", "never = 1", "target = {}"])
def test_a_manifest_of_another_shape_is_refused_in_words(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sync.toml"
    file.write_text(f"format_version = 1\n{text}\n")
    with pytest.raises(ConfigError, match="target"):
        load_manifest(file)


def test_a_manifest_that_needs_an_organisation_asks_for_one(checkout: Any) -> None:
    with pytest.raises(UsageError, match="HUGGINGFACE_ORG"):
        load_manifest(checkout.root / "sync.toml")


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"weights/model.safetensors": "x"}, "not to a Space"),
        ({"src/a.py": "x", "src/A.py": "y"}, "both"),
        ({"src/app.py": "x"}, "belongs to the target alone"),
    ],
)
def test_files_that_cannot_go_to_a_space_are_refused_by_name(
    checkout: Any, files: dict[str, str], complaint: str
) -> None:
    text = """
    format_version = 1
    [[target]]
    repo = "spaces/acme/a"
    own = ["app.py"]
    files = { "src/*" = "*", "weights/*" = "weights/*" }
    """
    checkout.write("sync.toml", text)
    for path, content in files.items():
        checkout.write(path, content)
    checkout.commit("Add")
    manifest = load_manifest(checkout.root / "sync.toml")

    with pytest.raises(ConfigError, match=complaint):
        manifest.files(manifest.targets[0], read_source(checkout.root))


def test_a_symbolic_link_is_refused(checkout: Any) -> None:
    (checkout.root / "core/src/link.py").symlink_to("/etc/hostname")
    checkout.commit("Link")
    manifest = load_manifest(checkout.root / "sync.toml", org="acme")

    with pytest.raises(ConfigError, match="symbolic link"):
        manifest.files(manifest.targets[0], read_source(checkout.root))


def test_a_source_tells_changed_files_from_untracked_ones(checkout: Any) -> None:
    checkout.write("core/src/model.py", "changed\n")
    checkout.write("core/src/new.py", "new\n")

    source = read_source(checkout.root)

    assert source.changed == ("core/src/model.py",)
    assert source.untracked == ("core/src/new.py",)
    assert len(source.commit) == 40
    assert source.subject == "Lay out the core"


def test_a_folder_without_git_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="git checkout"):
        read_source(tmp_path)


def test_repositories_are_named_as_the_hub_names_them() -> None:
    assert str(Repo.parse("acme/base")) == "acme/base"
    assert Repo.parse("hf://datasets/acme/corpus") == Repo("acme/corpus", "dataset")
    assert Repo.parse("acme/chat", "space") == Repo("acme/chat", "space")
    assert split_revision("acme/base@refs/pr/1") == ("acme/base", "refs/pr/1")
    for wrong in ("base", "a/b/c", "", "acme/", "models/acme/b/c"):
        with pytest.raises(UsageError):
            Repo.parse(wrong)
