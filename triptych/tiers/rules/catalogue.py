"""Which upstreams exist, which tiers they serve, and where a Space lives.

Three sources, the later ones winning by name: the environment's original variable names, the
configuration file, and what admins entered (`store`). Whether one may be asked is the
selector's business.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from triptych.config import environment
from triptych.config.gateway import GatewayConfig, UnknownFields, UpstreamConfig
from triptych.errors import ConfigError
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.egress import parse_address
from triptych.wire.tiers import CHALLENGERS, SPACES, TIERS

HOSTED = ("openai", "anthropic", "gemini")
"""Providers that run elsewhere unless an upstream says otherwise; no tier is at home there."""
OPENAI_ADDRESS = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-5-mini"
_SPACE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True, slots=True)
class Upstream:
    """One address that answers, as configuration or an admin declared it."""

    name: str
    provider: str
    address: str
    models: Mapping[str, str]
    external: bool
    key_name: str = ""
    company_id: str | None = None
    """Set: only members of this company may ever be sent there."""
    revision: str = ""
    context_tokens: int = 0
    stream_usage: bool = True
    max_connections: int = 128
    first_token_timeout_s: float | None = None
    private_allowed: bool = False
    """Whether plain http and private addresses are allowed."""
    unknown_fields: UnknownFields = "pass"
    """What becomes of request fields that neither OpenAI nor a known model server has."""
    hardware: str = ""
    """What it is billed for by the hour; empty: by tokens, or not at all."""
    key_names: tuple[str, ...] = ()
    """More keys, which take turns with `key_name`."""
    group: str = ""
    """What equal upstreams share; empty: none is equal to it."""
    weight: float = 1.0

    @property
    def all_key_names(self) -> tuple[str, ...]:
        """Name every key."""
        return tuple(dict.fromkeys(name for name in (self.key_name, *self.key_names) if name))


class Catalogue:
    """Hold the upstreams of one moment; replaced whole when something changes."""

    def __init__(self, upstreams: Iterable[Upstream], version: int = 0) -> None:
        self.version = version
        self.upstreams: Mapping[str, Upstream] = {u.name: u for u in upstreams}

    def serving(self, provider: str, tier: str, company_id: str | None) -> Iterator[Upstream]:
        """Yield a provider's upstreams for a tier, a company's own ones first.

        One that belongs to another company is never among them.
        """
        own, shared = [], []
        for upstream in self.upstreams.values():
            if upstream.provider != provider or tier not in upstream.models:
                continue
            if upstream.company_id is None:
                shared.append(upstream)
            elif upstream.company_id == company_id:
                own.append(upstream)
        yield from own
        yield from shared

    def named(self, model: str) -> list[Upstream]:
        """Return the upstreams that offer a model under this public name."""
        return [u for u in self.upstreams.values() if model in u.models and model not in TIERS]

    def model_names(self, principal: Principal) -> list[str]:
        """Return the public model names that a caller may use; tiers and challengers are none."""
        if principal.anonymous:
            return []
        hidden = (*TIERS, *CHALLENGERS)
        return sorted(
            name
            for name in {name for u in self.upstreams.values() for name in u.models}
            if name not in hidden and any(_usable(u, principal) for u in self.named(name))
        )


def _usable(upstream: Upstream, principal: Principal) -> bool:
    owner = upstream.company_id
    return owner is None or principal.role == "admin" or principal.member_of(owner)


def from_config(config: GatewayConfig) -> list[Upstream]:
    """Build the upstreams of the configuration, or of the environment where it names none."""
    declared = dict(config.upstreams) or dict(from_environment())
    return [build(name, one) for name, one in declared.items()]


def build(name: str, config: UpstreamConfig, *, trusted: bool = True) -> Upstream:
    """Build one upstream; `trusted` ones come from the operator and may be private.

    Raises: ConfigError when its address is not valid.
    """
    if config.provider != "scripted" and not config.address:
        raise ConfigError(
            f"gateway.upstreams.{name} has no address",
            hint='address = "https://..." or, for a Space, address = "org/name"',
        )
    if config.provider == "hf_spaces" and "://" not in config.address:
        space_id(config.address)
    models = dict(config.models) or {"base": ""}
    external = config.provider in HOSTED if config.external is None else config.external
    return Upstream(
        name=name,
        provider=config.provider,
        address=config.address,
        models=models,
        external=external,
        key_name=config.key_name,
        revision=config.revision,
        context_tokens=config.context_tokens,
        stream_usage=config.stream_usage,
        max_connections=config.max_connections,
        first_token_timeout_s=config.first_token_timeout_s,
        private_allowed=trusted,
        unknown_fields=config.unknown_fields or ("drop" if external else "pass"),
        hardware=config.hardware,
        key_names=tuple(config.key_names),
        group=config.group,
        weight=config.weight,
    )


def from_environment() -> Iterator[tuple[str, UpstreamConfig]]:
    """Read the originals' variables: three Spaces of one organisation, and OpenAI."""
    organisation = environment.get("HUGGINGFACE_ORG")
    for tier, (variable, default) in SPACES.items():
        name = environment.get(variable)
        if organisation or name:
            yield (
                f"space-{tier}",
                UpstreamConfig(
                    provider="hf_spaces",
                    address=qualified(name or default, organisation),
                    models={tier: ""},
                    key_name="HF_TOKEN",
                ),
            )
    if environment.get("OPENAI_API_KEY"):
        model = environment.get("OPENAI_MODEL", OPENAI_MODEL) or OPENAI_MODEL
        yield (
            "openai",
            UpstreamConfig(
                provider="openai",
                address=environment.get("OPENAI_BASE_URL", OPENAI_ADDRESS) or OPENAI_ADDRESS,
                models=dict.fromkeys(TIERS, model),
                key_name="OPENAI_API_KEY",
            ),
        )


def qualified(name: str, organisation: str | None) -> str:
    """Put the organisation before a Space's name exactly once."""
    if "/" in name or not organisation:
        return name
    return f"{organisation}/{name}"


def space_id(text: str) -> str:
    """Read `org/name` out of an id or a hub address.

    Raises: ConfigError when it is neither.
    """
    path = text.strip().strip("/")
    if "://" in path:
        parts = [part for part in parse_address(path).parts if part != "/"]
        if parts[:1] == ["spaces"]:
            parts = parts[1:]
        path = "/".join(parts[:2])
    organisation, _, name = path.partition("/")
    if not _SPACE_ID.fullmatch(organisation) or not _SPACE_ID.fullmatch(name):
        raise ConfigError(f"{text!r} is no Space", hint="write org/name")
    return f"{organisation}/{name}"


def direct_host(space: str) -> str:
    """Return the hf.space host of a Space on huggingface.co.

    Source: huggingface.co lowers the name and writes a dash for every other character.
    """
    return re.sub(r"[^a-z0-9]+", "-", space.lower()).strip("-") + ".hf.space"


def owned(upstream: Upstream, company_id: str | None) -> Upstream:
    """Assign an upstream to one company."""
    return dataclasses.replace(upstream, company_id=company_id)


def entered(row: Mapping[str, Any], *, private_allowed: bool) -> Upstream:
    """Build an upstream from an admin's row; it is trusted less than the configuration."""
    config = UpstreamConfig(
        provider=row["provider"],
        address=row["address"],
        models=row["models"],
        key_name=row["key_name"],
        external=row["external"],
        revision=row["revision"],
        hardware=row.get("hardware") or "",
    )
    upstream = build(row["name"], config, trusted=private_allowed)
    return owned(upstream, row["company_id"])
