"""Other people's clients, unmodified: with HF_ENDPOINT set and a token in its place."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from triptych.hub.server.storage.identity.accounts import (
    create_account,
    find_account,
    set_membership,
)

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub

CALLS = Path(__file__).with_name("calls.py")

TRANSFORMERS = """
import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM
torch.manual_seed(0)
torch.set_num_threads(1)
config = Qwen3Config(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=64)
model = Qwen3ForCausalLM(config).eval()
model.push_to_hub("acme/base")
again = AutoModelForCausalLM.from_pretrained("acme/base").eval()
ids = torch.arange(20)[None] % 64
with torch.no_grad():
    assert torch.equal(model(ids).logits, again(ids).logits)
print("bit-equal")
"""

DATASETS = """
from datasets import Dataset, load_dataset
rows = Dataset.from_dict({"text": [f"line {n}" for n in range(500)], "n": list(range(500))})
rows.push_to_hub("acme/texts", private=True)
again = load_dataset("acme/texts", split="train")
assert again["text"] == rows["text"]
streamed = load_dataset("acme/texts", split="train", streaming=True)
assert [row["n"] for row in streamed.take(3)] == [0, 1, 2]
rows.select(range(10)).push_to_hub("acme/texts", split="small")
assert load_dataset("acme/texts", split="small").num_rows == 10
print("loaded and streamed")
"""


@pytest.fixture
def home(hub: RunningHub, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who only set HF_ENDPOINT and signed in once."""
    (tmp_path / "token").write_text(hub.admin_token)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
    }


def run(command: list[str], environment: dict[str, str], seconds: float = 150) -> str:
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=seconds
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


def own_account(hub: RunningHub, home: dict[str, str]) -> None:
    _, token = hub.user()
    (Path(home["HF_HOME"]) / "token").write_text(token)


def acme(hub: RunningHub) -> None:
    database = hub.hub.database
    org = find_account(database, "acme") or create_account(database, "acme", kind="org")
    admin = find_account(database, "admin")
    assert admin is not None
    set_membership(database, org, admin, "write")


@pytest.mark.parametrize("mode", ["xet", "lfs"])
def test_every_call_of_the_script_works(hub: RunningHub, home: dict[str, str], mode: str) -> None:
    own_account(hub, home)
    if mode == "lfs":
        home["HF_HUB_DISABLE_XET"] = "1"
    words = run([sys.executable, str(CALLS)], home).splitlines()[-1].split()
    assert int(words[0]) >= 45
    assert words[-1].lower() == mode


def test_the_hf_command_works(hub: RunningHub, home: dict[str, str], tmp_path: Path) -> None:
    own_account(hub, home)
    hf = str(Path(sys.executable).with_name("hf"))
    who = run([hf, "auth", "whoami", "--format", "quiet"], home).split()[-1]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "w.safetensors").write_bytes(os.urandom(100_000))
    run([hf, "repos", "create", f"{who}/cli"], home)
    run([hf, "upload", f"{who}/cli", str(folder), "."], home)
    run([hf, "repos", "tag", "create", f"{who}/cli", "v1"], home)
    run([hf, "download", f"{who}/cli", "--revision", "v1", "--local-dir", str(tmp_path / "d")],
        home)  # fmt: skip
    for name in ("a.txt", "w.safetensors"):
        assert (tmp_path / "d" / name).read_bytes() == (folder / name).read_bytes()
    run([hf, "repos", "delete", f"{who}/cli", "--yes"], home)


def test_transformers_pushes_and_loads_bit_equal(hub: RunningHub, home: dict[str, str]) -> None:
    acme(hub)
    assert "bit-equal" in run([sys.executable, "-c", TRANSFORMERS], home)


def test_datasets_pushes_loads_and_streams(hub: RunningHub, home: dict[str, str]) -> None:
    acme(hub)
    assert "loaded and streamed" in run([sys.executable, "-c", DATASETS], home)


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["xet", "lfs"])
def test_the_script_works_with_the_previous_major_version(
    hub: RunningHub, home: dict[str, str], tmp_path: Path, mode: str
) -> None:
    """huggingface_hub 1.x, in an environment of its own."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    run([python, "-m", "pip", "install", "--quiet", "huggingface_hub>=1,<2"], dict(os.environ), 600)
    own_account(hub, home)
    if mode == "lfs":
        home["HF_HUB_DISABLE_XET"] = "1"
    words = run([python, str(CALLS)], home).splitlines()[-1].split()
    assert int(words[0]) >= 45
    assert words[3].startswith("1.")
