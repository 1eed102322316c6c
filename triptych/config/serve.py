"""Settings of a model server."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, config=_STRICT)
class ServeConfig:
    """The section `serve`: where a model answers, and how much it takes on."""

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback makes the models reachable by others."""

    port: Annotated[int, Field(ge=0, le=65535)] = 7890
    """Port to listen on; 0 takes any free one."""

    max_waiting: Annotated[int, Field(ge=0)] = 128
    """Answers per model that may wait beyond those being written; more are refused with 429."""

    max_body_bytes: Annotated[int, Field(ge=1024)] = 2 * 2**20
    """Largest request body; a larger one is refused with 413."""

    cors_origins: tuple[str, ...] = ()
    """Web origins whose pages may call this server from a browser; `*` is every page."""

    drain_s: Annotated[float, Field(ge=0.0)] = 30.0
    """Seconds that running answers are given to finish after SIGTERM."""

    kv_cache_bytes: Annotated[int, Field(ge=2**20)] = 32 * 2**20
    """Memory of one llama.cpp model's attention cache, shared by its answers; with enough for
    `generate.max_batch` whole contexts each answer has its own, which is faster."""

    prompt_cache_bytes: Annotated[int, Field(ge=2**20)] = 256 * 2**20
    """Memory in which a model keeps what it read for earlier answers, so that the next turn of a
    conversation, or a prompt that begins alike, is not read again."""
