"""Settings of text generation: how the next token is chosen, and which engine runs the model.

`Sampling` is the one definition of every sampling parameter; the engines, the command line, the
HTTP server and the pages all use it. Left out: serving (ports, queues), which is `serve`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

SETTINGS = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class Sampling:
    """How one answer is drawn from a model's probabilities.

    The filters act in this order: bias and penalties, temperature, top-k, top-p, min-p.
    """

    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    """Tokens after which generation stops with the reason `length`."""

    temperature: Annotated[float, Field(ge=0.0, le=10.0)] = 0.8
    """Divides the logits; 0 always takes the most probable token (greedy)."""

    top_k: Annotated[int, Field(ge=0)] = 0
    """Keep only the k most probable tokens; 0 keeps all."""

    top_p: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Keep the smallest set of tokens whose probabilities reach this sum; 1 keeps all, 0 one."""

    min_p: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Keep tokens at least this many times as probable as the most probable one; 0 keeps all."""

    repetition_penalty: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0
    """Divides positive (multiplies negative) logits of tokens already seen; 1 is off."""

    presence_penalty: Annotated[float, Field(ge=-2.0, le=2.0)] = 0.0
    """Subtracted from the logits of tokens that the answer holds already."""

    frequency_penalty: Annotated[float, Field(ge=-2.0, le=2.0)] = 0.0
    """Subtracted from a token's logit once for each time the answer holds it already."""

    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids, each with what is added to its logit; -100 forbids a token."""

    stop: tuple[str, ...] = ()
    """Strings that end the answer; the answer does not contain them."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """The same seed, model and prompt give the same answer; absent, every answer is new."""

    logprobs: Annotated[int, Field(ge=0, le=50)] | None = None
    """Report each token's log-probability and this many alternatives; absent reports none."""

    ignore_eos: bool = False
    """Go on past the end-of-text token, for measurements of a fixed length."""


@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class GenerateConfig(Sampling):
    """The section `generate`: sampling defaults, and how a model is run."""

    engine: Literal["auto", "torch", "llama_cpp", "openai", "transformers"] = "auto"
    """What runs the model; `auto` chooses and says what it chose."""

    base_url: str = ""
    """Address ending in /v1 of the server that the engine `openai` asks, such as vLLM's."""

    dtype: Literal[
        "auto", "float32", "bfloat16", "float16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"
    ] = "auto"  # fmt: skip
    """Precision of the weights; `auto` takes the fastest exact one; q widths are llama.cpp's."""

    device: str = "auto"
    """Where the torch engine runs: `cpu`, `cuda`, `cuda:1`; `auto` takes a GPU if there is one."""

    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of one engine; 0 takes one per core."""

    max_batch: Annotated[int, Field(ge=1, le=1024)] = 16
    """Answers that one engine decodes at the same time; further requests wait."""

    cache_memory_bytes: Annotated[int, Field(ge=0)] = 4 * 2**30
    """Memory budget of the model cache; the least recently used model leaves first."""
