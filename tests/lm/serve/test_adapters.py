"""A company's adapter is a model of its own to those who ask, on one loaded base."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
import uvicorn

from triptych.config import load_config
from triptych.lm.model.checkpoint import load_model
from triptych.lm.model.lora import LoraConfig, attach_lora, save_lora
from triptych.lm.serve.app import create_app
from triptych.lm.serve.models import build_service, describe_model
from triptych.processes.ports import bind


@pytest.fixture(scope="module")
def client(
    qwen3_folder: Path, tmp_path_factory: pytest.TempPathFactory, gguf_home: None
) -> Iterator[openai.OpenAI]:
    model = load_model(qwen3_folder, dtype=torch.float32)
    attach_lora(model, LoraConfig(rank=4, alpha=8))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora" in name:
                weight.copy_(torch.randn_like(weight) * 0.2)
    adapter = tmp_path_factory.mktemp("adapters") / "acme"
    save_lora(adapter, model, str(qwen3_folder))
    described = describe_model(str(qwen3_folder), Path, adapters={"acme": adapter})
    config = load_config(None, ["generate.threads=1", "generate.max_batch=4"])
    listener = bind("127.0.0.1", 0)
    app = create_app(build_service([described], config))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    yield openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    server.should_exit = True
    thread.join(timeout=30)


def ask(client: openai.OpenAI, model: str, **fields: Any) -> str:
    answer = client.completions.create(
        model=model, prompt="The company", max_tokens=16, temperature=0, **fields
    )
    assert answer.model in (model, "acme")
    return answer.choices[0].text


def test_an_adapter_is_listed_and_answers_under_its_own_name(client: openai.OpenAI) -> None:
    assert [card.id for card in client.models.list()] == ["tiny", "acme"]
    base, adapted = ask(client, "tiny"), ask(client, "acme")
    assert base != adapted
    assert ask(client, "tiny", extra_body={"adapter": "acme"}) == adapted
    assert ask(client, "tiny") == base


def test_an_unknown_adapter_is_404_with_the_nearest(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="acme"):
        ask(client, "tiny", extra_body={"adapter": "acne"})
