"""What the hub's client-side tests stand on: a real hub, a trained run, a checkout to sync."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from triptych.hub.client import Hub
from triptych.hub.repository import Repo

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


@pytest.fixture(scope="session", autouse=True)
def cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests download out of the user's own cache."""
    from huggingface_hub import constants

    cache = str(tmp_path_factory.mktemp("downloads"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", cache)
        patch.setenv("HF_HUB_CACHE", cache)
        yield


@pytest.fixture(scope="session")
def hub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded-hub")


@pytest.fixture(scope="session")
def endpoint(hub_root: Path) -> Iterator[str]:
    """The address of an embedded hub that runs as a process of its own."""
    command = [sys.executable, "-m", "triptych", "hub", "serve", "--port", "0"]
    log = (hub_root.parent / f"{hub_root.name}.log").open("w+")
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HF_ENDPOINT")}
    process = subprocess.Popen(
        [*command, "--root", str(hub_root)],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=environment,
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("hub: "), Path(log.name).read_text()
        address = line.removeprefix("hub: ").strip()
        wait_until(lambda: (hub_root / "admin_token").exists() and answers(address))
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)
        log.close()


@pytest.fixture
def triptych(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command as `triptych` does, without the second a new interpreter takes."""
    from triptych.cli.main import main

    def run(*words: str, stdin: str = "", folder: Path | None = None) -> Any:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        monkeypatch.chdir(folder or Path.cwd())
        capsys.readouterr()
        code = main(words)
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run


def wait_until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(address: str) -> bool:
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def client(endpoint: str, hub_root: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A client of that hub with its administrator's token; the environment names the same hub."""
    token = (hub_root / "admin_token").read_text().strip()
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_TOKEN", token)
    return Hub(endpoint, token)


@pytest.fixture
def fresh(client: Hub) -> Callable[..., Repo]:
    """Give names that no other test uses, in the administrator's own namespace."""
    owner = client.whoami()
    return lambda repo_type="model": Repo(f"{owner}/r{secrets.token_hex(5)}", repo_type)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus small enough to learn from in a second."""
    from triptych.config.data import DataConfig
    from triptych.lm.data.build import build_corpus

    texts = tmp_path_factory.mktemp("texts")
    for number in range(24):
        words = " ".join(f"tale {number * k} of the number {number + k};" for k in range(60))
        (texts / f"{number:02d}.txt").write_text(f"The {number}. story. {words}\n")
    out = tmp_path_factory.mktemp("data") / "corpus"
    build_corpus([str(texts)], out, DataConfig(vocab_size=300))
    return out


@pytest.fixture(scope="session")
def run_folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of eight steps with the milestones 4 and 8."""
    from triptych.config import load_config
    from triptych.lm.train.loop import run_to_end
    from triptych.lm.train.trainer import Trainer

    folder = tmp_path_factory.mktemp("runs") / "20260101-000000-tale"
    shape = "hidden_size=32 num_hidden_layers=2 num_attention_heads=2 intermediate_size=64"
    settings = [f"model.{pair}" for pair in f"size=tiny num_key_value_heads=1 {shape}".split()]
    settings += [f"train.{pair}" for pair in (
        "steps=8", "milestones=[4,8]", "context_length=32", "batch_tokens=128",
        "checkpoint_every=4", "eval_every=4", "sample_every=8", "threads=1", "precision=float32",
    )]  # fmt: skip
    config = load_config(None, [*settings, f"train.data={corpus}"])
    assert run_to_end(Trainer(config, folder, resolve=Path), []) == "finished"
    return folder
