"""Settings of the web pages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, config=_STRICT)
class PanelsConfig:
    """The section `panels`: where the pages are, and what one visitor may ask of them."""

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback makes the pages reachable by others."""

    port: Annotated[int, Field(ge=0, le=65535)] = 7860
    """Port to listen on; a taken one gives way to the next free one, 0 takes any."""

    upload_bytes: Annotated[int, Field(ge=1)] = 200 * 2**20
    """Largest file a visitor may upload."""

    generations_per_visitor: Annotated[int, Field(ge=1)] = 4
    """Answers one visitor may have written at the same time."""

    generations: Annotated[int, Field(ge=1)] = 16
    """Answers written at the same time for all visitors together; the others wait in line."""

    waiting: Annotated[int, Field(ge=0)] = 200
    """Answers that may wait in line; more are refused."""

    prompt_chars: Annotated[int, Field(ge=1)] = 20_000
    """Longest prompt a visitor may send, in characters."""

    hub_models: Literal["auto", "none", "public", "all"] = "auto"
    """Which repositories of the hub a visitor may open beside the models that are offered;
    `auto` is `all` on a page that only this machine reaches, and `none` on any other."""

    gateway: str = ""
    """Address of a gateway whose tiers can be compared and told what was preferred."""

    refresh_s: Annotated[float, Field(gt=0)] = 0.5
    """Seconds between two looks of an open page at what it shows."""

    sign_in: Literal["console", "all"] = "console"
    """Which panels require sign-in: only the Console, or all of them, as they must where
    others than this machine's own user reach them."""

    sign_in_client: str = ""
    """Id under which the panels are known to the hub whose accounts may sign in; empty: keys only.
    `triptych up` makes one for the embedded hub."""
