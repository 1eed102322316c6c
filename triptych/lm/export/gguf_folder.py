"""Serve an existing GGUF file as it is: the folder that our engines need beside it.

A GGUF holds its shape, tokenizer and chat template as metadata. They are written out as
`config.json` and a Hugging Face tokenizer, so that the file is used like any model folder while
llama.cpp runs the weights unchanged. Left out: reading the weights, and other architectures than
Llama and Qwen3.

Source: the GGUF specification; the split patterns are llama.cpp's for each `tokenizer.ggml.pre`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from triptych.config import environment
from triptych.durable import atomic_folder, sha256_file, write_atomic
from triptych.errors import CheckpointError, ExportError
from triptych.lm.export.gguf import LLAMA3_SPLIT_PATTERN
from triptych.lm.model.tokenizer import QWEN2_SPLIT_PATTERN, Tokenizer

FORMAT_VERSION = 1
MODEL = "model.gguf"
RECORD = "gguf.json"
_CONTROL, _USER_DEFINED = 3, 4  # GGUF's token types
_SPLITS = {"qwen2": QWEN2_SPLIT_PATTERN, "llama-bpe": LLAMA3_SPLIT_PATTERN}


@dataclass(frozen=True)
class GgufRecord:
    """What `gguf.json` says of the file beside it."""

    dtype: str
    parameters: int
    sha256: str
    format_version: int = FORMAT_VERSION


def read_record(folder: Path) -> GgufRecord | None:
    """Return what is known of a folder's GGUF, or None where the folder holds safetensors.

    Raises: CheckpointError for a record of another version.
    """
    file = folder / RECORD
    if not file.is_file():
        return None
    try:
        record = GgufRecord(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as fault:
        raise CheckpointError(f"{file} cannot be read: {fault}") from fault
    if record.format_version != FORMAT_VERSION:
        raise CheckpointError(f"{file} has format {record.format_version}, not {FORMAT_VERSION}")
    return record


def folder_of_gguf(file: Path) -> Path:
    """Return the model folder of a GGUF file, written under the cache where there is none yet.

    Raises: CheckpointError for a damaged file; ExportError for a shape we do not run.
    """
    digest = sha256_file(file)
    folder = environment.home() / "cache" / "gguf-folders" / f"{file.stem}-{digest[:16]}"
    if not (folder / RECORD).is_file():
        with atomic_folder(folder) as partial:
            (partial / MODEL).symlink_to(file.resolve())
            describe_gguf(partial, digest)
    return folder


def describe_gguf(folder: Path, digest: str = "") -> None:
    """Write config.json, the tokenizer and gguf.json beside a folder's `model.gguf`.

    Raises: CheckpointError for a damaged file; ExportError for a shape we do not run.
    """
    from gguf import GGUFReader

    file = folder / MODEL
    try:
        reader = GGUFReader(file)
        values = {name: field.contents() for name, field in reader.fields.items()}
        parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
        config, tokenizer = _config(values), _tokenizer(values)
        config["tie_word_embeddings"] = all(t.name != "output.weight" for t in reader.tensors)
    except (ValueError, KeyError, IndexError, OSError) as fault:
        raise CheckpointError(
            f"{file} is damaged, or no GGUF of a language model: {fault}",
            hint="fetch it again",
        ) from fault
    file_type = int(values.get("general.file_type", -1))
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")
    tokenizer.save(folder)
    record = GgufRecord(_type_name(file_type), parameters, digest or sha256_file(file))
    write_atomic(folder / RECORD, json.dumps(asdict(record), indent=2) + "\n")


_CLASSES = {
    "llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
}  # fmt: skip


def _config(values: dict[str, Any]) -> dict[str, Any]:
    kind = values["general.architecture"]
    if kind not in _CLASSES:
        raise ExportError(
            f"this GGUF is a {kind} model; {', '.join(_CLASSES)} can be served",
            hint="run it with another server, and name that one: --engine openai",
        )
    hidden, heads = values[f"{kind}.embedding_length"], values[f"{kind}.attention.head_count"]
    return {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        "vocab_size": len(values["tokenizer.ggml.tokens"]),
        "hidden_size": hidden,
        "intermediate_size": values[f"{kind}.feed_forward_length"],
        "num_hidden_layers": values[f"{kind}.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": values.get(f"{kind}.attention.head_count_kv", heads),
        "head_dim": values.get(f"{kind}.attention.key_length", hidden // heads),
        "max_position_embeddings": values[f"{kind}.context_length"],
        "rope_theta": values.get(f"{kind}.rope.freq_base", 10_000.0),
        "rms_norm_eps": values[f"{kind}.attention.layer_norm_rms_epsilon"],
        "hidden_act": "silu",
        "bos_token_id": values.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": values.get("tokenizer.ggml.eos_token_id"),
    }


def _tokenizer(values: dict[str, Any]) -> Tokenizer:
    import tokenizers
    from tokenizers import AddedToken, decoders, models, processors

    if values["tokenizer.ggml.model"] != "gpt2":
        raise ExportError(
            f"this GGUF has a {values['tokenizer.ggml.model']!r} tokenizer",
            hint="byte-level BPE (gpt2) can be served",
        )
    tokens: list[str] = values["tokenizer.ggml.tokens"]
    kinds: list[int] = values["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in values["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    core = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = _pre_tokenizer(values.get("tokenizer.ggml.pre", "default"))
    core.decoder = decoders.ByteLevel()
    pairs = list(zip(tokens, kinds, strict=True))
    core.add_special_tokens([AddedToken(t, special=True) for t, k in pairs if k == _CONTROL])
    core.add_tokens([AddedToken(t, normalized=False) for t, k in pairs if k == _USER_DEFINED])
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": bool(values.get("tokenizer.ggml.add_bos_token", False)),
        "clean_up_tokenization_spaces": False,
    }
    for role in ("bos", "eos"):
        number = values.get(f"tokenizer.ggml.{role}_token_id")
        if number is not None:
            settings[f"{role}_token"] = tokens[number]
    if settings["add_bos_token"]:
        bos = settings["bos_token"]
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
        )
    if "tokenizer.chat_template" in values:
        settings["chat_template"] = values["tokenizer.chat_template"]
    return Tokenizer(core, settings)


def _pre_tokenizer(name: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    if name in _SPLITS:
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_SPLITS[name]), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    if name == "smollm":
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    if name == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    raise ExportError(
        f"this GGUF splits text as {name!r}, which is not known here",
        hint=f"known: {', '.join([*_SPLITS, 'smollm', 'gpt-2'])}",
    )


def _type_name(file_type: int) -> str:
    from gguf import LlamaFileType

    try:
        name = LlamaFileType(file_type).name
    except ValueError:
        return "unknown"
    return name.removeprefix("ALL_").removeprefix("MOSTLY_").lower()
