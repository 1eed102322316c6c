"""A JSON schema binds answers alike on every engine that `auto` may choose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from triptych.config.generate import GenerateConfig, Sampling
from triptych.errors import GenerationError
from triptych.lm.generate.engine import Engine, GenerateRequest
from triptych.lm.generate.select_engine import open_engine

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "grün", "青"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "sure": {"type": "boolean"},
    },
    "required": ["colour", "count", "sure"],
    "additionalProperties": False,
}
ENGINES = ["torch", "llama_cpp", "transformers"]


@pytest.fixture(scope="module")
def engines(
    qwen3_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Engine]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_HOME", str(tmp_path_factory.mktemp("home")))
        running = {
            name: open_engine(
                qwen3_folder,
                GenerateConfig(engine=name, dtype="float32", threads=1, max_batch=2),  # type: ignore[arg-type]
            )
            for name in ENGINES
        }
    yield running
    for engine in running.values():
        engine.close()


def answer(engine: Engine, schema: dict[str, Any], **sampling: Any) -> Any:
    given = Sampling(**{"max_new_tokens": 80, "temperature": 0, **sampling})
    return engine.generate(GenerateRequest(prompt="The", json_schema=schema, sampling=given))


@pytest.mark.parametrize("name", ENGINES)
def test_f07_a_schema_binds_the_answer_on_every_engine(engines, name) -> None:
    for seed in range(5):
        found = answer(engines[name], SCHEMA, temperature=1.5, seed=seed)
        assert found.finish_reason == "stop"
        jsonschema.validate(json.loads(found.text), SCHEMA)


def test_f07_engines_choose_the_same_answer_to_a_schema(engines) -> None:
    texts = {name: answer(engine, SCHEMA).text for name, engine in engines.items()}
    assert texts["torch"] == texts["llama_cpp"] == texts["transformers"]


def test_a_bound_answer_reports_what_the_model_itself_thought(engines) -> None:
    ours, theirs = (answer(engines[name], SCHEMA, logprobs=3).tokens for name in ENGINES[:2])
    assert [token.token_id for token in ours] == [token.token_id for token in theirs][: len(ours)]
    for token, other in zip(ours, theirs, strict=False):
        assert token.logprob == pytest.approx(other.logprob, abs=5e-3)
        assert {each.token_id for each in token.alternatives} == {
            each.token_id for each in other.alternatives
        }


def test_an_answer_without_a_schema_is_written_beside_one_that_has_one(engines) -> None:
    free = GenerateRequest(prompt="The", sampling=Sampling(max_new_tokens=6, temperature=0))
    alone = engines["torch"].generate(free).text
    bound: list[Any] = []
    engines["torch"].start(
        GenerateRequest(
            prompt="x", json_schema=SCHEMA, sampling=Sampling(max_new_tokens=80, temperature=0)
        ),
        bound.append,
    )
    assert engines["torch"].generate(free).text == alone


@pytest.mark.parametrize("name", ENGINES)
def test_a_schema_that_cannot_be_followed_is_refused_with_its_reason(engines, name) -> None:
    with pytest.raises(GenerationError, match="JSON schema") as refused:
        answer(engines[name], {"type": "nothing"})
    assert refused.value.code == "schema"


def test_what_is_unsupported_in_a_schema_is_named(engines) -> None:
    with pytest.raises(GenerationError, match="not") as refused:
        answer(engines["torch"], {"type": "object", "properties": {"a": {"not": {}}}})
    assert refused.value.code == "schema"
