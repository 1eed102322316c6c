"""An existing GGUF file is served as it is: same tokens, same chat, same answers as its source."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from triptych.cli.resolve import resolve
from triptych.config.generate import GenerateConfig
from triptych.errors import CheckpointError, GenerationError
from triptych.lm.export.gguf import export_gguf
from triptych.lm.export.gguf_folder import folder_of_gguf, read_record
from triptych.lm.generate.select_engine import open_engine, select_engine, weights_bytes
from triptych.lm.model.checkpoint import load_model
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.serve.models import describe_model

TEXT = "The quick brown fox, süß 🙂 42 times; don't <|im_end|> stop.\r\n\r\n\tYes."


@pytest.fixture
def file(random_folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "Tiny-Chat.Q8.gguf"
    export_gguf(random_folder, path, dtype="f16")
    return path


def test_tokens_and_chat_are_those_of_the_model_it_came_from(
    random_folder: Path, file: Path
) -> None:
    wanted, found = Tokenizer.load(random_folder), Tokenizer.load(folder_of_gguf(file))
    assert found.encode(TEXT) == wanted.encode(TEXT)
    assert found.special_ids.items() >= wanted.special_ids.items()
    chat = [{"role": "user", "content": TEXT}]
    assert found.encode_chat(chat, add_generation_prompt=True) == wanted.encode_chat(
        chat, add_generation_prompt=True
    )
    assert (found.eos_id, found.boundary_id) == (wanted.eos_id, wanted.boundary_id)


def test_it_is_served_unchanged_and_scores_text_as_its_source(
    random_folder: Path, file: Path
) -> None:
    model = describe_model(str(file), resolve)
    record = read_record(model.folder)
    assert record is not None
    assert (model.name, model.revision) == ("Tiny-Chat.Q8", record.sha256[:12])
    assert (model.folder / "model.gguf").resolve() == file.resolve()
    config = GenerateConfig(threads=1, max_batch=1, engine="auto")
    assert select_engine(model.folder, config).engine == "llama_cpp"
    assert weights_bytes(model.folder, config) == file.stat().st_size
    scores = []
    for folder in (model.folder, random_folder):
        engine = open_engine(
            folder, GenerateConfig(threads=1, max_batch=1, engine="llama_cpp", dtype="float16")
        )
        scores.append(engine.score("The quick brown fox jumps").nats)
        if folder == model.folder:
            assert engine.info.dtype == "f16"
        engine.close()
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_another_engine_and_a_damaged_file_are_refused(file: Path) -> None:
    with pytest.raises(GenerationError, match="torch engine runs no GGUF"):
        select_engine(folder_of_gguf(file), GenerateConfig(engine="torch"))
    file.write_bytes(b"GGUF" + b"\0" * 40)
    with pytest.raises(CheckpointError, match="damaged"):
        folder_of_gguf(file)


def test_its_weights_are_those_of_its_source_for_training(
    random_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "exact.gguf"
    export_gguf(random_folder, path, dtype="f32")
    wanted = load_model(random_folder, dtype=torch.float32)
    found = load_model(folder_of_gguf(path))
    assert found.config.tie_word_embeddings == wanted.config.tie_word_embeddings
    assert found.state_dict().keys() == wanted.state_dict().keys()
    for name, weight in found.state_dict().items():
        assert torch.equal(weight, wanted.state_dict()[name]), name
