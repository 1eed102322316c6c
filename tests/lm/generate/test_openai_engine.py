"""The engine that asks another server, against a real one: our model server over llama.cpp."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from triptych.config import load_config
from triptych.config.environment import Secret
from triptych.config.generate import Sampling
from triptych.errors import GenerationError
from triptych.lm.generate.engine import Engine, GenerateRequest
from triptych.lm.generate.openai import OpenAIEngine
from triptych.lm.serve.app import create_app
from triptych.lm.serve.models import build_service, describe_model
from triptych.lm.serve.service import ModelService
from triptych.processes.ports import bind

KEY = "key-for-the-upstream"
TEXT = "The quick brown fox jumps over the lazy dog"


@pytest.fixture(scope="module")
def upstream(
    qwen3_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, ModelService]]:
    patch = pytest.MonkeyPatch()
    patch.setenv("TRIPTYCH_HOME", str(tmp_path_factory.mktemp("home")))
    config = load_config(
        None, ["generate.threads=1", "generate.max_batch=4", "generate.dtype=float32"]
    )
    service = build_service([describe_model(str(qwen3_folder), Path)], config)
    listener = bind("127.0.0.1", 0)
    settings = uvicorn.Config(
        create_app(service, token=Secret(KEY)), log_level="warning", access_log=False
    )
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while service.engine_of("tiny") is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", service
    server.should_exit = True
    thread.join(timeout=30)
    patch.undo()


@pytest.fixture(scope="module")
def remote(upstream: tuple[str, ModelService]) -> Iterator[OpenAIEngine]:
    engine = OpenAIEngine(upstream[0], "tiny", api_key=Secret(KEY))
    yield engine
    engine.close()


@pytest.fixture
def local(upstream: tuple[str, ModelService]) -> Engine:
    engine = upstream[1].engine_of("tiny")
    assert engine is not None
    return engine


def test_it_says_what_runs_there(remote: OpenAIEngine, local: Engine) -> None:
    assert remote.info.engine == "openai" and remote.info.model == "tiny"
    assert remote.info.revision == local.info.revision
    assert KEY not in repr(vars(remote))


@pytest.mark.parametrize("chat", [False, True])
def test_answers_are_those_of_the_engine_behind_the_server(
    remote: OpenAIEngine, local: Engine, chat: bool
) -> None:
    prompt = {"messages": [{"role": "user", "content": TEXT}]} if chat else {"prompt": TEXT}
    sampling = Sampling(temperature=0, max_new_tokens=16, logprobs=2)
    request = GenerateRequest(**prompt, sampling=sampling)
    ours, theirs = local.generate(request), remote.generate(request)
    assert theirs.text == ours.text
    assert (theirs.input_tokens, theirs.output_tokens) == (ours.input_tokens, ours.output_tokens)
    assert theirs.finish_reason == ours.finish_reason
    for one, other in zip(ours.tokens, theirs.tokens, strict=True):
        assert other.logprob == pytest.approx(one.logprob, abs=1e-4)
        # Completions name alternatives by their text, and halves of characters have the same.
        texts = {kind.bytes.decode(errors="replace") for kind in one.alternatives}
        assert len(texts) <= len(other.alternatives) <= len(one.alternatives)


def test_every_sampling_setting_travels(remote: OpenAIEngine, local: Engine) -> None:
    sampling = Sampling(
        temperature=1.3,
        top_k=40,
        top_p=0.9,
        min_p=0.01,
        repetition_penalty=1.2,
        seed=7,
        max_new_tokens=20,
        stop=("Q",),
        ignore_eos=True,
    )
    request = GenerateRequest(prompt=TEXT, sampling=sampling)
    assert remote.generate(request).text == local.generate(request).text


def test_tokens_and_scores_come_from_the_server(remote: OpenAIEngine, local: Engine) -> None:
    messages = [{"role": "user", "content": "hi"}]
    assert remote.encode(TEXT) == local.encode(TEXT)
    assert remote.encode(messages) == local.encode(messages)
    ours, theirs = local.score(TEXT, alternatives=2), remote.score(TEXT, alternatives=2)
    assert theirs.nats == pytest.approx(ours.nats, abs=1e-3)
    assert theirs.scored_tokens == ours.scored_tokens
    assert len(theirs.tokens[3].alternatives) == 2


def test_cancelling_reaches_the_server(
    remote: OpenAIEngine, upstream: tuple[str, ModelService]
) -> None:
    sampling = Sampling(max_new_tokens=480, ignore_eos=True)
    for chunk in remote.stream(GenerateRequest(prompt=TEXT, sampling=sampling)):
        assert chunk.finish_reason is None
        break
    deadline = time.monotonic() + 30
    while upstream[1]._active["tiny"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_schema_binds_the_answer(remote: OpenAIEngine) -> None:
    schema = {"enum": ["yes", "no"]}
    answer = remote.generate(
        GenerateRequest(prompt=TEXT, json_schema=schema, sampling=Sampling(max_new_tokens=30))
    )
    assert answer.text in ('"yes"', '"no"')


def test_refusals_keep_their_words_and_their_meaning(
    remote: OpenAIEngine, upstream: tuple[str, ModelService]
) -> None:
    with pytest.raises(GenerationError) as caught:
        remote.generate(GenerateRequest(prompt=[5] * 600))
    assert caught.value.code == "context_length"
    with pytest.raises(GenerationError, match="bearer token") as caught:
        OpenAIEngine(upstream[0], "tiny", api_key=Secret("wrong"))
    assert "wrong" not in str(caught.value)
    with pytest.raises(GenerationError, match="it serves tiny"):
        OpenAIEngine(upstream[0], "other", api_key=Secret(KEY))


def test_a_server_that_is_not_there_is_told_as_such() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(GenerationError) as caught:
            OpenAIEngine(f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
    assert caught.value.code == "unreachable" and caught.value.retryable


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(GenerationError, match="no address"):
        OpenAIEngine("localhost:8000")
