"""The Playground as a real Space: its owner's models, private ones too, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of random weights."""
    import torch

    from triptych.lm.model.checkpoint import save_model
    from triptych.lm.model.config import ModelConfig
    from triptych.lm.model.tokenizer import Tokenizer
    from triptych.lm.model.transformer import Transformer

    torch.manual_seed(0)
    shape = ModelConfig(
        model_type="qwen3", vocab_size=512, hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        max_position_embeddings=512, eos_token_id=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    text = iter(["The quick brown fox asks every company again and again."] * 30)
    save_model(folder, Transformer(shape).eval(), Tokenizer.train(text, vocab_size=400))
    return folder


def test_the_space_compares_its_owners_models_and_refuses_every_other(
    running: Any, model: Path
) -> None:
    api = running.api()
    repo, other = "admin/playground-model", "admin/playground-other"
    for name, private in ((repo, True), (other, False)):
        api.create_repo(name, private=private)
        api.upload_folder(repo_id=name, folder_path=model)
    api.create_tag(repo, tag="step-10")
    named = f"{repo}@step-10"
    space = running.space(
        None,
        space_variables=[
            {"key": "MODELS", "value": f"{named} {repo}"},
            {"key": "TRIPTYCH_GENERATE__THREADS", "value": "1"},
        ],
        space_secrets=[{"key": "HF_TOKEN", "value": running.token}],
    )
    api.upload_folder(
        repo_id=space.repo_id,
        folder_path=REPOSITORY / "triptych" / "spaces" / "playground",
        repo_type="space",
    )
    space.until("RUNNING")
    assert space.get("/health").json() == {"status": "ok"}

    page = Client(space.host, verbose=False, analytics_enabled=False)
    try:
        controls = [0.8, 0, 1, 0, 1, 8, 1, "", "text", False]
        drawn = str(page.predict([named, repo], "The <b>quick", *controls, api_name="/compare"))
        assert drawn.count('class="answer done') == 2, drawn
        assert "The &lt;b&gt;quick" in drawn and "llama_cpp" in drawn
        drawn = str(page.predict([other, "/etc"], "The ", *controls, api_name="/compare"))
        assert drawn.count("is offered here") == 2 and 'class="answer done' not in drawn
    finally:
        page.close()

    face = f"{space.host}/models/v1"
    sha = api.model_info(repo).sha
    ids = [
        card["id"]
        for card in httpx.get(f"{face}/models", trust_env=False, timeout=60).json()["data"]
    ]
    assert ids == [f"{repo}@{sha[:12]}"], "both names are one commit, so one model"
    body = {"model": named, "prompt": "The ", "max_tokens": 4}
    answer = httpx.post(f"{face}/completions", json=body, timeout=60, trust_env=False)
    assert answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] == 4
    body["model"] = other
    answer = httpx.post(f"{face}/completions", json=body, timeout=60, trust_env=False)
    assert answer.status_code == 404 and "served are" in answer.json()["error"]["message"]
