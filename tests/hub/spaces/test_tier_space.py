"""The tier as a real Space of the hub, and a model server whose hub refuses or goes away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client

from triptych.config import load_config
from triptych.errors import AccessDenied, HubUnavailable
from triptych.hub.client import Hub
from triptych.hub.pull import pull
from triptych.lm.generate.engine import GenerateRequest, Sampling
from triptych.lm.serve.models import build_service, describe_model

TIER = Path(__file__).resolve().parents[3] / "triptych" / "spaces" / "tier"
CONTEXT = {"company_name": "Zorblax"}


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
    decoder = Transformer(shape)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.copy_(torch.randn_like(weight) * 0.2 + (weight.dim() == 1))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    text = iter(["The quick brown fox asks every company again and again."] * 30)
    save_model(folder, decoder.eval(), Tokenizer.train(text, vocab_size=400))
    return folder


def test_h1_a_tier_runs_as_a_real_space_and_answers_through_its_address(
    running: Any, model: Path
) -> None:
    api = running.api()
    repo = "admin/tier-model"
    api.create_repo(repo, private=True)
    sha = api.upload_folder(repo_id=repo, folder_path=model).oid
    space = running.space(
        None,
        space_variables=[
            {"key": "MODEL_ID", "value": repo},
            {"key": "MODEL_VERSION", "value": sha},
            {"key": "TRIPTYCH_GENERATE__THREADS", "value": "1"},
        ],
        space_secrets=[{"key": "HF_TOKEN", "value": running.token}],
    )
    api.upload_folder(repo_id=space.repo_id, folder_path=TIER, repo_type="space")
    space.until("RUNNING")
    assert space.get("/health").json()["revision"] == sha

    def ask(**body: Any) -> Any:
        answer = httpx.post(f"{space.host}/api/generate", json=body, timeout=60, trust_env=False)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model_version"] == sha
        return answer.json()

    told = {"max_length": 16, "temperature": 0, "context": CONTEXT}
    plain = ask(prompt="Who are we?", params={"max_length": 16, "temperature": 0})
    one = ask(prompt="Who are we?", params=told)
    other = ask(
        inputs="Who are we?",
        parameters={"max_new_tokens": 16, "temperature": 0, "context": CONTEXT},
    )
    assert one["generated_text"] == other["generated_text"] != plain["generated_text"]
    assert one["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]
    page = Client(space.host, verbose=False, analytics_enabled=False)
    try:
        by_page = page.predict(
            "Who are we?", 16, 0, None, '{"company_name": "Zorblax"}', "", "", api_name="/generate"
        )
    finally:
        page.close()
    assert by_page == one["generated_text"]


def test_without_its_hub_a_cached_model_is_still_served_and_a_gated_one_never_was(
    running: Any, model: Path
) -> None:
    api = running.api()
    for name in ("admin/cached", "admin/gated"):
        api.create_repo(name)
        api.upload_folder(repo_id=name, folder_path=model)
    api.update_repo_settings("admin/gated", gated="manual")
    _, stranger = running.user()
    hub, gone = (Hub(url, stranger) for url in (running.url, "http://127.0.0.1:9"))
    with pytest.raises(AccessDenied, match="gated") as refused:
        pull("admin/gated", hub)
    assert "ask for access" in (refused.value.hint or "")

    folder = pull("admin/cached", hub)
    assert pull("admin/cached", gone) == folder
    with pytest.raises(HubUnavailable):
        pull("admin/gated", gone)
    served = describe_model("admin/cached", lambda reference: pull(reference, gone))
    assert served.name == "admin/cached" and served.revision == folder.name
    service = build_service([served], load_config(None, ["generate.threads=1"]))
    try:
        with service._cache.lease(served.name) as engine:
            asked = GenerateRequest(prompt="The", sampling=Sampling(max_new_tokens=3))
            assert engine.generate(asked).output_tokens <= 3
    finally:
        service.close()
