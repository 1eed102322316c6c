"""Evaluate checkpoints on a corpus or on a text, one or several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triptych.config.evaluate import EvaluateConfig
from triptych.errors import EvaluationError
from triptych.lm.data.shards import TokenShards
from triptych.lm.evaluate.loss import Measurement, measure
from triptych.lm.evaluate.run_history import run_history_of
from triptych.lm.model.adapter_record import ModelSource
from triptych.lm.model.checkpoint import load_tokenizer
from triptych.lm.model.source import load_source
from triptych.lm.model.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One checkpoint and its scores."""

    name: str
    folder: Path
    parameters: int
    tokens_seen: int | None
    measurement: Measurement

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `--json`."""
        scored = self.measurement
        return {
            "name": self.name,
            "parameters": self.parameters,
            "tokens_seen": self.tokens_seen,
            "loss": scored.loss,
            "bpb": scored.bpb,
            "perplexity": scored.perplexity,
            "tokens": scored.tokens,
            "text_bytes": scored.text_bytes,
            "tok_per_s": round(scored.tok_per_s, 1),
        }


def evaluate_text(model: Path | ModelSource, text: str, config: EvaluateConfig) -> Evaluation:
    """Evaluate a checkpoint, or an adapter on its base, on a text as one document.

    Raises: EvaluationError for an empty text; CheckpointError and DataError for the folder.
    """
    if not text:
        raise EvaluationError("the text is empty", hint="choose a file with some text in it")
    source = _source(model)
    tokenizer = load_tokenizer(source.folder)
    tokens = np.array([tokenizer.boundary_id, *tokenizer.encode(text)], dtype=np.int64)
    return _evaluation(source, tokenizer, tokens, config)


def evaluate_corpus(model: Path | ModelSource, data: Path, config: EvaluateConfig) -> Evaluation:
    """Evaluate a checkpoint, or an adapter on its base, on the validation split of a corpus.

    The corpus was built with its tokenizer.

    Raises: EvaluationError where the corpus has another tokenizer.
    """
    source = _source(model)
    tokenizer = load_tokenizer(source.folder)
    shards = TokenShards(data, "val")
    if Tokenizer.load(data / "tokenizer").core.get_vocab() != tokenizer.core.get_vocab():
        raise EvaluationError(
            f"the corpus {data} was built with another tokenizer than {source.folder} has",
            hint="evaluate on text instead: --text FILE",
        )
    return _evaluation(source, tokenizer, shards, config)


def _evaluation(
    source: ModelSource,
    tokenizer: Tokenizer,
    tokens: np.ndarray | TokenShards,
    config: EvaluateConfig,
) -> Evaluation:
    folder = source.adapter or source.folder
    model = load_source(source, device=_device(config))
    longest = model.config.max_position_embeddings
    context = config.context_length or min(longest, 1024)
    if context > longest:
        raise EvaluationError(
            f"evaluate.context_length = {context} is more than the {longest} positions of {folder}",
            hint=f"set evaluate.context_length={longest} or less",
        )

    def read(start: int, count: int) -> np.ndarray:
        if isinstance(tokens, TokenShards):
            return tokens.read(start, count)
        return tokens[start : start + count]

    scored = measure(
        model,
        read,
        len(tokens),
        tokenizer.token_byte_lengths(),
        context_length=context,
        batch_size=config.batch_size,
        max_tokens=config.max_tokens,
    )
    return Evaluation(
        name=_name(folder),
        folder=folder,
        parameters=model.config.num_parameters,
        tokens_seen=_tokens_seen(folder),
        measurement=scored,
    )


def _source(model: Path | ModelSource) -> ModelSource:
    return model if isinstance(model, ModelSource) else ModelSource(model)


def read_text(path: Path) -> str:
    """Return the contents of a text file.

    Raises: EvaluationError where it is missing, empty, binary or not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EvaluationError(f"cannot read {path}: {error.strerror}", hint="check the path") from (
            error
        )
    if not data:
        raise EvaluationError(f"{path} is empty", hint="choose a file with some text in it")
    if b"\0" in data[:65536]:
        raise EvaluationError(f"{path} is a binary file", hint="choose a text file in UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EvaluationError(
            f"{path} is not UTF-8: byte {error.start} cannot be read",
            hint=f"convert it, for example: iconv -f latin1 -t utf-8 {path}",
        ) from error


def table(evaluations: Sequence[Evaluation]) -> str:
    """Return evaluations as an aligned table, lowest bits per byte first."""
    header = ("checkpoint", "parameters", "tokens seen", "loss", "bpb", "perplexity", "tok/s")
    rows = [
        (
            e.name,
            f"{e.parameters:,}",
            "" if e.tokens_seen is None else f"{e.tokens_seen:,}",
            f"{e.measurement.loss:.4f}",
            f"{e.measurement.bpb:.4f}",
            f"{e.measurement.perplexity:.2f}",
            f"{e.measurement.tok_per_s:,.0f}",
        )
        for e in sorted(evaluations, key=lambda e: e.measurement.bpb)
    ]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    )


def _name(folder: Path) -> str:
    history = run_history_of(folder)
    return f"{history.name}/{folder.name}" if history else folder.name


def _tokens_seen(folder: Path) -> int | None:
    state = folder / "trainer_state.json"
    if not state.is_file():
        return None
    seen: int = json.loads(state.read_text(encoding="utf-8"))["tokens_seen"]
    return seen


def _device(config: EvaluateConfig) -> str:
    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return config.device
