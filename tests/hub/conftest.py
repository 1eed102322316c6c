"""What the hub's client-side tests stand on: a git checkout to sync from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = ("data_loader", "evaluate_model", "model", "train_model", "train_tokenizer")
SIZES = ("large", "medium", "small")
NEVER = ("data/raw/squad.json", "tests/test_model.py", "docs/guide.md", "exports/m.onnx")


class Checkout:
    """A git checkout laid out like the original system's core repository."""

    expected = {f"training/{n}.py": f"core/src/{n}.py" for n in SOURCES} | {
        f"configs/{s}_model.json": f"configs/{s}_model.json" for s in SIZES
    }

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "-q", "-b", "main")
        for name in SOURCES:
            self.write(f"core/src/{name}.py", f'"""The original {name}."""\n')
        for size in SIZES:
            self.write(f"configs/{size}_model.json", f'{{"size": "{size}"}}\n')
        for path in NEVER:
            self.write(path, "never\n")
        shutil.copy(Path(__file__).parent / "originals" / "sync.toml", root / "sync.toml")
        self.commit("Lay out the core")

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Maintainer", "-c", "user.email=maintainer@example.org"]
        command = ["git", "-C", str(self.root), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, path: str, content: str | bytes) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "core")
