"""Patterns of `.gitattributes` and `.gitignore` mean what git itself says they mean."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from triptych.hub.server.storage.git.attributes import Attributes, Ignored

PATHS = [
    "a.mine", "my file.x", "tiny.bin", "a/b/c.bin", "a/tiny.bin", "docs/a*b", "x]y", "-", "ab",
    "aab", "ba", "a/ab/b", "b/a", "deep/er/and/er/x.bin", "tab\there", "\u00e9.bin", "quote\"d",
    "A.BIN", "a/b", "\\back", "#hash", "!bang", "saved_model/x", "saved_model/a/b",
]  # fmt: skip
PIECES = ["a", "b", "*", "**", "/", "?", "[ab]", "[!a]", "\\*", ".bin", "x", "er", "[[:space:]]",
          "-", "[a-c]", "[]]", "**/", "/**", "*.", "]", "\\?"]  # fmt: skip


def pattern(rng: random.Random) -> str:
    """Return a pattern; runs of stars and of slashes are left out: git has no rule for them."""
    while True:
        text = "".join(rng.choices(PIECES, k=rng.randint(1, 5)))
        if "***" not in text and "//" not in text:
            return text


def git(folder: Path, *arguments: str, feed: str = "") -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        input=feed.encode(), capture_output=True, check=False,
    )  # fmt: skip
    return done.stdout.decode()


def large_as_git_says(folder: Path, content: str) -> dict[str, bool]:
    (folder / ".gitattributes").write_text(content)
    listed = git(folder, "check-attr", "-z", "--stdin", "filter", feed="\0".join(PATHS) + "\0")
    fields = listed.split("\0")
    return {path: value == "lfs" for path, value in zip(fields[::3], fields[2::3], strict=False)}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    git(tmp_path.parent, "init", "-q", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "content",
    [
        "*.mine\tfilter=lfs\tdiff=lfs\n",
        '"my file.x" filter=lfs\n',
        "*.bin filter=lfs\ntiny.bin !filter\n",
        "*.bin filter=lfs\na/tiny.bin -filter\n",
        "[attr]big filter=lfs -text\n*.bin big\nA* big=no\n",
        '"\\303\\251.bin" filter=lfs\n"quote\\"d" filter=lfs\n"tab\\there" filter=lfs\n',
        "  *.bin   filter=lfs  \r\n!a.mine filter=lfs\ndocs/ filter=lfs\n#hash filter=lfs\n",
        "*.bin filter=lfs filter=other\nab filter=other filter=lfs\n",
        "/tiny.bin filter=lfs\nb/c.bin filter=lfs\n**/er filter=lfs\nsaved_model/**/* filter=lfs\n",
        "docs/a\\*b filter=lfs\nx]y filter=lfs\n\\!bang filter=lfs\n\\#hash filter=lfs\n",
        "*.bin filter=lfs " + "x" * 3000 + "\nab filter\nba filter=lfs2\n",
    ],
)
def test_found_h05_attributes_are_read_as_git_reads_them(work: Path, content: str) -> None:
    attributes = Attributes(content.encode())
    assert {path: attributes.is_large(path) for path in PATHS} == large_as_git_says(work, content)


def test_found_h05_patterns_made_by_chance_match_as_in_git(work: Path) -> None:
    rng = random.Random(5)
    for _ in range(120):
        lines = [pattern(rng) for _ in range(4)]
        content = "".join(f"{line} {rng.choice(['', '-', '!'])}filter" + "\n" for line in lines)
        content = content.replace(" filter\n", " filter=lfs\n")
        attributes = Attributes(content.encode())
        found = {path: attributes.is_large(path) for path in PATHS}
        assert found == large_as_git_says(work, content), content


def test_found_h05_ignore_patterns_made_by_chance_match_as_in_git(work: Path) -> None:
    rng = random.Random(6)
    for _ in range(120):
        lines = [pattern(rng) for _ in range(3)]
        ends = [rng.choice(["", " ", "" if line.endswith("/") else "/"]) for line in lines]
        content = "".join(
            f"{rng.choice(['', '', '!'])}{line}{end}\n"
            for line, end in zip(lines, ends, strict=True)
        )
        (work / ".gitignore").write_text(content)
        listed = git(work, "check-ignore", "-z", "--no-index", "--stdin", feed="\0".join(PATHS))
        ignored = Ignored(content)
        found = {path for path in PATHS if ignored.match_file(path)}
        assert found == set(filter(None, listed.split("\0"))), content
