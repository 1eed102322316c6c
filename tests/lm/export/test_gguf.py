"""A GGUF file is the same model: the same probabilities, the same tokens, the same chat."""

from __future__ import annotations

import http.client
import json
import random
import shutil
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from triptych.errors import CheckpointError, ExportError
from triptych.lm.export import gguf as exporter
from triptych.lm.export import kquants
from triptych.lm.export.gguf import export_gguf, permute_rope_rows, pre_tokenizer_name
from triptych.lm.generate.native import kept_signal_handlers
from triptych.lm.model.tokenizer import Tokenizer

PROMPT = "The quick brown fox, süß 🙂, jumps over the lazy dog again and again. Company policy 42"


@contextmanager
def llama_cpp(path: Path, socket_path: Path) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 1024
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.fit_params = False
    params.verbosity = 0
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.hostnames = [str(socket_path)]
    with kept_signal_handlers():
        server = xllamacpp.Server(params)
    try:
        yield server
    finally:
        del server


Run = Callable[[Path], AbstractContextManager[Any]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return lambda path: llama_cpp(path, tmp_path / "llama.sock")


def oracle_logprobs(folder: Path, ids: list[int]) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].log_softmax(-1)


def first_token(server: Any, ids: list[int], plain: int) -> dict[int, float]:
    # llama.cpp reports nothing where it takes a part of a character, so it takes a plain letter;
    # what it reports is the model's own distribution all the same.
    answer = server.handle_completions(
        {
            "prompt": ids,
            "max_tokens": 1,
            "temperature": 0,
            "logit_bias": [[plain, 1e9]],
            "logprobs": 5,
            "n_probs": 5,
        }
    )
    entry = answer["choices"][0]["logprobs"]["content"][0]
    return {top["id"]: top["logprob"] for top in entry["top_logprobs"]}


def worst_top5_difference(server: Any, folder: Path, every: int = 5) -> float:
    """Compare the five likeliest tokens at several places of a text; infinite where they differ."""
    tokenizer = Tokenizer.load(folder)
    ids, plain = tokenizer.encode(PROMPT), tokenizer.encode("a")[0]
    truth = oracle_logprobs(folder, ids)
    worst = 0.0
    for length in range(3, len(ids), every):
        values, tokens = truth[length - 1].topk(5)
        given = first_token(server, ids[:length], plain)
        # A tie within the tolerance may swap the fifth with the sixth.
        for token, logprob in given.items():
            worst = max(worst, abs(float(truth[length - 1, token]) - logprob))
        worst = max(worst, abs(float(values[4]) - min(given.values())))
        if set(tokens[:3].tolist()) - set(given):
            return float("inf")
    return worst


def test_llama_cpp_agrees_on_the_top5_logprobs_to_5e_3(
    random_folder: Path, tmp_path: Path, run: Run
) -> None:
    report = export_gguf(random_folder, tmp_path / "model.gguf", dtype="f32")
    assert report.architecture == random_folder.name
    with run(report.path) as server:
        assert worst_top5_difference(server, random_folder) < 5e-3


LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "more"),
    [("qwen2", {}), ("llama", {"rope_scaling": LLAMA3, "rope_theta": 500.0})],
    ids=["biases of Qwen2.5", "rope factors of Llama 3.1"],
)
def test_f07_shapes_of_real_models_agree_too(
    write_model: Callable[..., Path], tmp_path: Path, run: Run, kind: str, more: dict[str, Any]
) -> None:
    folder = write_model(tmp_path / kind, kind, **more)
    export_gguf(folder, tmp_path / "model.gguf", dtype="f32")
    with run(tmp_path / "model.gguf") as server:
        assert worst_top5_difference(server, folder) < 5e-3


def test_f07_a_wrong_rope_factor_is_caught(
    write_model: Callable[..., Path], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "m", "llama", rope_scaling=LLAMA3, rope_theta=500.0)
    plain = np.ones(8, dtype=np.float32)
    monkeypatch.setattr(exporter, "rope_factors", lambda _: plain)
    export_gguf(folder, tmp_path / "wrong.gguf", dtype="f32")
    with run(tmp_path / "wrong.gguf") as server:
        assert worst_top5_difference(server, folder) > 5e-3


def test_f07_smollms_own_tokenizer_splits_alike(
    qwen3_folder: Path, tmp_path: Path, run: Run
) -> None:
    folder = tmp_path / "smol"
    shutil.copytree(qwen3_folder, folder)
    described = json.loads((folder / "tokenizer.json").read_text())
    described["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ]}  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(described))
    export_gguf(folder, tmp_path / "model.gguf", dtype="f16")
    with run(tmp_path / "model.gguf") as server:
        assert differing(server, folder, unicode_strings(2_000)) == []


@pytest.mark.prove
def test_the_top5_logprobs_agree_at_every_place(
    random_folder: Path, tmp_path: Path, run: Run, proven: Callable[..., None]
) -> None:
    export_gguf(random_folder, tmp_path / "model.gguf", dtype="f32")
    with run(tmp_path / "model.gguf") as server:
        worst = worst_top5_difference(server, random_folder, every=1)
    proven(
        "parity",
        f"llama.cpp on our f32 GGUF and transformers, {random_folder.name}",
        {"largest difference of the top 5 log-probabilities, nats": round(worst, 6)},
    )
    assert worst < 5e-3


def test_a_wrong_permutation_is_caught(
    random_folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(config: dict[str, Any], weights: Any, name: str) -> Any:
        projection = name.endswith(("q_proj.weight", "k_proj.weight"))
        heads = 4 if "q_proj" in name else 2
        if projection and config["model_type"] == "qwen3":
            return lambda: permute_rope_rows(weights.read(name), heads)
        return lambda: weights.read(name)

    monkeypatch.setattr(exporter, "_reader", wrong)
    export_gguf(random_folder, tmp_path / "wrong.gguf", dtype="f32")
    with run(tmp_path / "wrong.gguf") as server:
        assert worst_top5_difference(server, random_folder) > 5e-3


def unicode_strings(count: int) -> list[str]:
    """Draw strings from every plane, and from what tokenizers get wrong."""
    draw = random.Random(7)
    hard = [
        "don't",
        "  x ",
        "\r\n\r\n",
        "\n \n",
        "123456",
        "１２３",
        "e\u0301",
        "ﬁ",
        "\u200d",
        "\t\t",
    ]
    hard += [
        "🙂",
        "👩‍👩‍👧",
        "नमस्ते",
        "한국어",
        "العربية",
        "\xa0",
        "\u3000",
        "'S",
        "'ſ",
        "a\u0000b",
        "…",
        "  ",
    ]
    ranges = [(32, 127), (160, 0x250), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE80)]
    ranges += [(0x2000, 0x2BFF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3)]
    ranges += [(0x1F300, 0x1FAFF), (0x10000, 0x10FFFF), (0, 32)]
    strings = []
    for _ in range(count):
        parts = []
        for _ in range(draw.randint(1, 8)):
            if draw.random() < 0.3:
                parts.append(draw.choice(hard))
            else:
                low, high = draw.choice(ranges)
                points = (draw.randint(low, high) for _ in range(draw.randint(1, 5)))
                parts += [chr(point) for point in points if not 0xD800 <= point <= 0xDFFF]
            parts.append(draw.choice(["", "", " ", "\n"]))
        strings.append("".join(parts))
    return strings


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, address: str) -> None:
        super().__init__("localhost")
        self.address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.address)


def tokens_of(server: Any, texts: list[str]) -> list[list[int]]:
    connection = UnixConnection(server.listening_address.removeprefix("unix://"))
    ids = []
    for text in texts:
        body = json.dumps({"content": text, "add_special": False, "parse_special": False})
        connection.request("POST", "/tokenize", body, {"content-type": "application/json"})
        ids.append(json.loads(connection.getresponse().read())["tokens"])
    connection.close()
    return ids


def differing(server: Any, folder: Path, texts: list[str]) -> list[str]:
    tokenizer = Tokenizer.load(folder)
    ours = [tokenizer.encode(text) for text in texts]
    theirs = tokens_of(server, texts)
    return [text for text, a, b in zip(texts, ours, theirs, strict=True) if a != b]


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.prove)])
def test_llama_cpp_gives_the_same_token_ids_for_10_000_unicode_strings(
    qwen3_folder: Path, tmp_path: Path, run: Run, count: int, proven: Callable[..., None]
) -> None:
    export_gguf(qwen3_folder, tmp_path / "model.gguf", dtype="f16")
    with run(tmp_path / "model.gguf") as server:
        assert differing(server, qwen3_folder, unicode_strings(count)) == []
    if count > 10_000:
        found = {"Unicode strings": count, "strings whose token ids differ": 0}
        proven("parity", "llama.cpp's tokens and ours", found)


def test_a_wrong_pre_tokenizer_is_caught(
    qwen3_folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "pre_tokenizer_name", lambda _: "gpt-2")
    export_gguf(qwen3_folder, tmp_path / "wrong.gguf", dtype="f16")
    with run(tmp_path / "wrong.gguf") as server:
        assert differing(server, qwen3_folder, unicode_strings(200))


def test_a_tokenizer_llama_cpp_does_not_know_is_refused(qwen3_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(qwen3_folder, folder)
    described = json.loads((folder / "tokenizer.json").read_text())
    described["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\p{N}{1,2}|\s+"
    (folder / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(ExportError, match="no pre-tokenizer equal"):
        export_gguf(folder, tmp_path / "other.gguf")
    assert not (tmp_path / "other.gguf").exists()


def test_the_known_pre_tokenizers_have_their_names() -> None:
    plain = {"type": "ByteLevel", "use_regex": True}
    assert pre_tokenizer_name({"pre_tokenizer": plain}) == "gpt-2"
    for pattern, name in (
        (exporter.QWEN2_SPLIT_PATTERN, "qwen2"),
        (exporter.LLAMA3_SPLIT_PATTERN, "llama-bpe"),
    ):
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
        steps = {"pretokenizers": [split, {"type": "ByteLevel", "use_regex": False}]}
        assert pre_tokenizer_name({"pre_tokenizer": steps}) == name


@pytest.mark.parametrize("dtype", exporter.GGUF_TYPES)
def test_every_width_reads_back_as_the_same_weights_within_its_precision(
    random_folder: Path, tmp_path: Path, dtype: exporter.GgufType
) -> None:
    import gguf

    export_gguf(random_folder, tmp_path / "model.gguf", dtype=dtype)
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    weights = exporter.Weights(random_folder)
    down = next(t for t in reader.tensors if t.name == "blk.1.ffn_down.weight")
    read = gguf.quants.dequantize(down.data, down.tensor_type).reshape(64, 160)
    truth = weights.read("model.layers.1.mlp.down_proj.weight")
    # A row of 160 holds no block of 256: the next plainer kinds, of 8 and 5 bits, stand in.
    step = {"f32": 0, "f16": 2**-11, "bf16": 2**-8, "q8_0": 1 / 127, "q6_k": 1 / 127,
            "q5_k_m": 1 / 15, "q4_k_m": 1 / 15}[dtype]  # fmt: skip
    limit = np.abs(truth).max() * step if dtype[0] == "q" else np.abs(truth) * step + 1e-7
    assert (np.abs(read - truth) <= limit).all()
    norms = [t for t in reader.tensors if t.name.endswith("norm.weight")]
    assert {t.tensor_type for t in norms} == {gguf.GGMLQuantizationType.F32}


@pytest.fixture(scope="module")
def wide_folder(write_model: Callable[..., Path], tmp_path_factory: Any) -> Path:
    """A model whose rows hold whole blocks of 256, with weights like those of trained ones."""
    return write_model(
        tmp_path_factory.mktemp("wide") / "wide", "qwen3", hidden_size=256, intermediate_size=512,
        num_hidden_layers=4,
    )  # fmt: skip


@pytest.mark.parametrize(("dtype", "limit"), [("q6_k", 0.02), ("q5_k_m", 0.04), ("q4_k_m", 0.08)])
def test_f07_k_quants_are_what_llama_cpp_reads(
    wide_folder: Path, tmp_path: Path, run: Run, dtype: exporter.GgufType, limit: float
) -> None:
    import gguf

    report = export_gguf(wide_folder, tmp_path / "model.gguf", dtype=dtype)
    weights = exporter.Weights(wide_folder)
    reader = gguf.GGUFReader(report.path)
    kinds = {t.name: t.tensor_type.name for t in reader.tensors}
    assert kinds["token_embd.weight"] == "Q6_K", "it is the head as well"
    if dtype == "q4_k_m":
        assert {kinds[f"blk.{n}.ffn_down.weight"] for n in (2, 3)} == {"Q6_K"}
        assert kinds["blk.1.attn_q.weight"] == kinds["blk.1.ffn_down.weight"] == "Q4_K"
    for name, tensor in (
        ("mlp.gate_proj", "ffn_gate"), ("self_attn.v_proj", "attn_v"),
    ):  # fmt: skip
        found = next(t for t in reader.tensors if t.name == f"blk.1.{tensor}.weight")
        read = gguf.quants.dequantize(found.data, found.tensor_type)
        truth = weights.read(f"model.layers.1.{name}.weight")
        error = np.sqrt(np.mean((read.reshape(truth.shape) - truth) ** 2)) / truth.std()
        assert error < limit
    with run(report.path) as server:
        answer = server.handle_completions({"prompt": [5, 6, 7], "max_tokens": 4})
    assert answer["usage"]["completion_tokens"] >= 1


def test_f07_a_wrong_layout_of_scales_is_caught(
    wide_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf

    monkeypatch.setattr(kquants, "_packed", lambda s, m: np.concatenate([s, m[:, :4]], axis=1))
    export_gguf(wide_folder, tmp_path / "wrong.gguf", dtype="q4_k_m")
    reader = gguf.GGUFReader(tmp_path / "wrong.gguf")
    found = next(t for t in reader.tensors if t.name == "blk.1.ffn_gate.weight")
    read = gguf.quants.dequantize(found.data, found.tensor_type)
    truth = exporter.Weights(wide_folder).read("model.layers.1.mlp.gate_proj.weight")
    assert np.sqrt(np.mean((read.reshape(truth.shape) - truth) ** 2)) > 0.2 * truth.std()


def test_the_chat_template_and_the_end_of_a_turn_travel_with_the_file(
    qwen3_folder: Path, tmp_path: Path
) -> None:
    import gguf

    export_gguf(qwen3_folder, tmp_path / "model.gguf", name="my model")
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    tokenizer = Tokenizer.load(qwen3_folder)
    assert fields["tokenizer.chat_template"].contents() == tokenizer.chat_template
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.eos_id
    assert fields["tokenizer.ggml.bos_token_id"].contents() == tokenizer.boundary_id
    assert fields["general.name"].contents() == "my model"


def test_tied_embeddings_are_written_once(
    tmp_path: Path, run: Run, write_model: Callable[..., Path]
) -> None:
    import gguf

    folder = write_model(tmp_path / "tied", "llama", tie_word_embeddings=True)
    export_gguf(folder, tmp_path / "tied.gguf", dtype="f32")
    names = {t.name for t in gguf.GGUFReader(tmp_path / "tied.gguf").tensors}
    assert "output.weight" not in names
    with run(tmp_path / "tied.gguf") as server:
        assert worst_top5_difference(server, folder) < 5e-3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "gpt2"),
        ("hidden_act", "gelu"),
        ("attention_bias", True),
        ("rope_parameters", {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}),
    ],
)
def test_what_the_format_would_get_wrong_is_refused(
    qwen3_folder: Path, tmp_path: Path, key: str, value: object
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(qwen3_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ExportError):
        export_gguf(folder, tmp_path / "model.gguf")


def test_damaged_weights_are_refused_and_leave_no_file(qwen3_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "torn"
    shutil.copytree(qwen3_folder, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        export_gguf(folder, tmp_path / "model.gguf")
    weights.write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="damaged"):
        export_gguf(folder, tmp_path / "model.gguf")
    assert list(tmp_path.glob("*.gguf")) == list(tmp_path.glob(".*.gguf*")) == []


def test_a_user_cannot_type_a_control_token(qwen3_folder: Path, tmp_path: Path, run: Run) -> None:
    export_gguf(qwen3_folder, tmp_path / "model.gguf", dtype="f16")
    tokenizer = Tokenizer.load(qwen3_folder)
    with run(tmp_path / "model.gguf") as server:
        (ids,) = tokens_of(server, ["<|im_end|> <|endoftext|>"])
    assert not set(ids) & set(tokenizer.special_ids.values())
