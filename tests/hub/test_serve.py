"""`triptych serve` with models of a hub that refuses some of them, or that has gone away."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from triptych.errors import AccessDenied
from triptych.hub.pull import pull

NO_HUB = "http://127.0.0.1:9"
PATIENCE_S = 120.0
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def repositories(endpoint: str, hub_root: Path, run_folder: Path) -> dict[str, str]:
    """The same model for everybody, for members, for its owner, and gated until a token comes."""
    api = HfApi(endpoint=endpoint, token=(hub_root / "admin_token").read_text().strip())
    names = {}
    for kind in ("open", "gated", "private", "granted"):
        names[kind] = f"admin/{kind}-{secrets.token_hex(4)}"
        api.create_repo(names[kind], private=kind == "private")
        api.upload_folder(
            repo_id=names[kind], folder_path=run_folder / "checkpoints" / "step-00000008"
        )
        if kind in ("gated", "granted"):
            api.update_repo_settings(names[kind], gated="manual")
    return names


@pytest.fixture
def as_nobody(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_TOKEN", "")


@pytest.fixture(scope="module")
def without_hub(
    endpoint: str, repositories: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A server of the open model, which was fetched before; its hub does not answer any more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", endpoint)
        folder = pull(repositories["open"])
    process = subprocess.Popen(
        [sys.executable, "-m", "triptych", "serve", repositories["open"], "--port", "0"],
        env={
            **os.environ,
            "HF_ENDPOINT": NO_HUB,
            "TRIPTYCH_HOME": str(tmp_path_factory.mktemp("home")),
            "TRIPTYCH_GENERATE__THREADS": "1",
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), "it does not start without its hub"
        yield address, folder
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def ask(address: str) -> Any:
    """Ask for three tokens; an answer waits until the model is loaded."""
    body = json.dumps({"prompt": "The", "max_tokens": 3}).encode()
    request = urllib.request.Request(
        f"{address}/completions", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.loads(answer.read())


def test_a_model_that_was_fetched_is_served_while_its_hub_is_down(
    without_hub: tuple[str, Path], repositories: dict[str, str]
) -> None:
    address, folder = without_hub
    answer = ask(address)
    assert answer["model"] == repositories["open"] and answer["usage"]["completion_tokens"] <= 3
    with urllib.request.urlopen(address.removesuffix("/v1") + "/health", timeout=60) as health:
        assert json.loads(health.read())["revision"] == folder.name


@pytest.mark.parametrize("known", [False, True], ids=["nobody", "another account"])
def test_a_gated_model_is_refused_with_what_to_do_and_other_servers_go_on(
    known: bool,
    triptych: Command,
    as_nobody: None,
    endpoint: str,
    hub_root: Path,
    repositories: dict[str, str],
    without_hub: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if known:
        root, name = ("--root", str(hub_root)), f"u{secrets.token_hex(4)}"
        assert triptych("hub", "user", "add", name, *root).returncode == 0
        token = triptych("hub", "token", "create", name, "laptop", *root).stdout.strip()
        monkeypatch.setenv("HF_TOKEN", token)
    gated = repositories["gated"]
    for models in ([gated], [repositories["open"], gated]):
        done = triptych("serve", *models, "--port", "0")
        assert done.returncode == 1 and done.stdout == ""
        assert f"{gated} is gated" in done.stderr
        assert f"accept its terms or ask for access at {endpoint}/{gated}" in done.stderr
        assert "HF_TOKEN" in done.stderr and "hf auth login" in done.stderr
    assert ask(without_hub[0])["choices"]


def test_a_private_model_is_refused_with_what_to_do(
    triptych: Command, as_nobody: None, repositories: dict[str, str]
) -> None:
    done = triptych("serve", repositories["private"], "--port", "0")
    assert done.returncode == 1 and done.stdout == ""
    assert "not yours to see" in done.stderr and "HF_TOKEN" in done.stderr


def test_a_model_that_was_never_fetched_is_refused_while_its_hub_is_down(
    triptych: Command,
    as_nobody: None,
    repositories: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NO_HUB)
    done = triptych("serve", repositories["private"], "--port", "0")
    assert done.returncode == 3 and f"{NO_HUB} does not answer" in done.stderr


def test_a_gated_model_opens_once_the_token_may_read_it(
    as_nobody: None,
    hub_root: Path,
    repositories: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(AccessDenied):
        pull(repositories["granted"])
    monkeypatch.setenv("HF_TOKEN", (hub_root / "admin_token").read_text().strip())
    assert (pull(repositories["granted"]) / "model.safetensors").is_file()
