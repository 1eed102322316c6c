"""Adapters per request on both engines: as merged, alone in a mixed batch, and proven to act."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from triptych.config.generate import GenerateConfig, Sampling
from triptych.errors import CheckpointError, GenerationError
from triptych.lm.generate.adapters.movement import measure_movement
from triptych.lm.generate.engine import Engine, GenerateRequest
from triptych.lm.generate.select_engine import open_engine
from triptych.lm.generate.torch_engine import TorchEngine
from triptych.lm.model import lora
from triptych.lm.model.adapter_record import (
    CONFIG,
    RECORD,
    AdapterRecord,
    template_sha256,
    weights_sha256,
    write_record,
)
from triptych.lm.model.checkpoint import load_model, load_tokenizer, save_model
from triptych.lm.model.manifest import write_manifest
from triptych.lm.model.tensors import save_tensors
from triptych.lm.train.posttrain.probe import probe_texts, take_probe

ENGINES = ["torch", "llama_cpp"]
TEXT = "def add(a, b):\n    return a + b"


def write_adapter(folder: Path, base: Path, seed: int, **config: Any) -> Path:
    """Write an adapter with a record, as a run does."""
    model = load_model(base, dtype=torch.float32)
    lora.attach_lora(model, lora.LoraConfig(**{"rank": 4, "alpha": 8.0, **config}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.requires_grad):
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    lora.save_lora(folder, model, str(base))
    tokenizer = load_tokenizer(base)
    probe = take_probe(model, probe_texts(tokenizer))
    sha256, template = weights_sha256(base), template_sha256(tokenizer)
    write_record(folder, AdapterRecord(str(base), sha256, template, probe))
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(
    random_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Path]]:
    at = tmp_path_factory.mktemp("adapters")
    yield {
        "all": write_adapter(at / "all", random_folder, 1),
        "some": write_adapter(at / "some", random_folder, 2, target_modules=("k_proj", "up_proj")),
        "upper": write_adapter(at / "upper", random_folder, 3, first_layer=2),
    }


@pytest.fixture(params=ENGINES)
def engine(
    request: pytest.FixtureRequest,
    random_folder: Path,
    adapters: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Engine]:
    monkeypatch.setenv("TRIPTYCH_HOME", str(tmp_path))
    running = opened(random_folder, request.param, adapters)
    yield running
    running.close()


def opened(folder: Path, name: str, adapters: dict[str, Path]) -> Engine:
    config = GenerateConfig(engine=name, dtype="float32", threads=1, max_batch=8)  # type: ignore[arg-type]
    return open_engine(folder, config, adapters=adapters)


def greedy(adapter: str | None) -> GenerateRequest:
    sampling = Sampling(temperature=0, max_new_tokens=12, logprobs=0)
    return GenerateRequest(prompt=TEXT, sampling=sampling, adapter=adapter)


def logprobs(engine: Engine, adapter: str | None) -> list[float]:
    return [token.logprob for token in engine.score(TEXT, adapter=adapter).tokens[1:]]


def test_an_adapter_scores_and_writes_as_the_merged_model(
    engine: Engine, adapters: dict[str, Path], random_folder: Path, tmp_path: Path
) -> None:
    for name, folder in adapters.items():
        model = load_model(random_folder, dtype=torch.float32)
        lora.load_lora(folder, model)
        save_model(tmp_path / name, model, load_tokenizer(random_folder))
        merged = TorchEngine.load(tmp_path / name, dtype="float32")
        try:
            wanted = logprobs(merged, None)
            assert logprobs(engine, name) == pytest.approx(wanted, abs=1e-3)
            assert logprobs(engine, None) != pytest.approx(wanted, abs=0.1)
            assert engine.generate(greedy(name)).text == merged.generate(greedy(None)).text
        finally:
            merged.close()


def test_an_answer_is_the_same_whichever_adapters_answer_beside_it(engine: Engine) -> None:
    names = [None, "all", "some"]
    alone = {name: [t.token_id for t in engine.generate(greedy(name)).tokens] for name in names}
    streams = [(name, engine.stream(greedy(name))) for name in [*names, *names[::-1]]]
    for name, stream in streams:
        assert [t.token_id for chunk in stream for t in chunk.tokens] == alone[name]
    assert len({tuple(ids) for ids in alone.values()}) == 3


def test_an_adapter_that_is_not_loaded_is_refused(engine: Engine) -> None:
    for call in (lambda: engine.generate(greedy("som")), lambda: engine.score("x", adapter="som")):
        with pytest.raises(GenerationError, match="did you mean some") as refused:
            call()
        assert refused.value.code == "adapter"


def test_a_loaded_adapter_moves_its_probe_as_when_it_was_saved(
    engine: Engine, adapters: dict[str, Path]
) -> None:
    for name, folder in adapters.items():
        movement = measure_movement(engine, name, folder)
        assert movement.recorded is not None and movement.recorded > 0.1
        assert movement.missed < 0.01 * movement.recorded
        other = "all" if name == "some" else "some"
        assert not measure_movement(engine, other, folder).agrees


@pytest.mark.parametrize("name", ENGINES)
def test_an_adapter_that_does_not_act_as_trained_keeps_the_model_from_loading(
    name: str, random_folder: Path, adapters: dict[str, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TRIPTYCH_HOME", str(tmp_path))
    faults = {
        "zeroed": {key: 0 * value for key, value in load_file(weights(adapters["all"])).items()},
        "another": load_file(weights(write_adapter(tmp_path / "n", random_folder, 9))),
        "halved": {key: value / 2 for key, value in load_file(weights(adapters["all"])).items()},
    }
    for fault, tensors in faults.items():
        folder = write_adapter(tmp_path / fault, random_folder, 1)
        save_tensors(tensors, weights(folder))
        write_manifest(folder)
        with pytest.raises(CheckpointError, match="does not act as it was trained") as refused:
            opened(random_folder, name, {"acme": folder})
        assert refused.value.code == "movement"


def test_an_adapter_of_another_make_must_change_something(
    random_folder: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "theirs", random_folder, 1)
    (folder / RECORD).unlink()
    (folder / "manifest.json").unlink()
    opened(random_folder, "torch", {"theirs": folder}).close()
    zeroed = {key: 0 * value for key, value in load_file(weights(folder)).items()}
    save_tensors(zeroed, weights(folder))
    with pytest.raises(CheckpointError, match="changes nothing"):
        opened(random_folder, "torch", {"theirs": folder})


def test_a_changed_file_of_an_adapter_is_torn(
    random_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_HOME", str(tmp_path))
    folder = write_adapter(tmp_path / "torn", random_folder, 1)
    settings = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**settings, "lora_alpha": 16}))
    for name in ENGINES:
        with pytest.raises(CheckpointError) as refused:
            opened(random_folder, name, {"acme": folder})
        assert refused.value.code == "torn"


def weights(folder: Path) -> Path:
    return folder / lora.WEIGHTS
