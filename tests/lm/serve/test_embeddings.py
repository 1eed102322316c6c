"""`/v1/embeddings` by the openai SDK: the same vectors from both engines."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import openai
import pytest

TEXTS = ["The quick fox", "Company policy 42"]


def client_of(server: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_f11_embeddings_are_those_of_either_engine(
    server: Any, start: Any, qwen3_folder: Path
) -> None:
    made = client_of(server).embeddings.create(model="tiny", input=TEXTS)
    vectors = [entry.embedding for entry in made.data]
    assert [entry.index for entry in made.data] == [0, 1] and made.usage.prompt_tokens > 3
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1, 1], abs=1e-3)
    with start(qwen3_folder, settings=("generate.engine=torch",)) as running:
        other = client_of(running).embeddings.create(
            model="tiny", input=TEXTS, encoding_format="float"
        )
    for ours, theirs in zip(vectors, other.data, strict=True):
        assert ours == pytest.approx(theirs.embedding, abs=2e-3)


def test_f11_embeddings_take_ids_and_dimensions_and_refuse_in_words(server: Any) -> None:
    client = client_of(server)
    made = client.embeddings.create(model="tiny", input=[[300, 301], [302]], dimensions=8)
    assert [len(entry.embedding) for entry in made.data] == [8, 8]
    assert math.hypot(*made.data[0].embedding) == pytest.approx(1, abs=1e-3)
    one = client.embeddings.create(model="tiny", input=[300, 301], dimensions=8)
    assert one.data[0].embedding == pytest.approx(made.data[0].embedding, abs=1e-5)
    with pytest.raises(openai.BadRequestError, match="tokens"):
        client.embeddings.create(model="tiny", input="word " * 2000)
    with pytest.raises(openai.UnprocessableEntityError, match="input"):
        client.embeddings.create(model="tiny", input="")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="none", input="a")
