"""The view model of the providers: the list with the state of each, and the form for one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, field_validator

from triptych.errors import TierError
from triptych.panels.console.words import KINDS, words
from triptych.panels.gateway_client import GatewayClient, segment
from triptych.panels.web import forms
from triptych.wire.tiers import TIERS

PAGE = "/console/providers"
Kind = Literal["hf_spaces", "local", "openai", "anthropic", "gemini"]


class SaveProvider(BaseModel):
    """A provider as its form describes it."""

    name: str = Field(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    provider: Kind = "hf_spaces"
    address: str = Field(min_length=1, max_length=500)
    tiers: list[str] = Field(default_factory=list)
    model: str = ""
    others: str = ""
    company_id: str | None = None
    key_name: str = ""
    is_active: bool = True
    version: int | None = None

    @field_validator("others")
    @classmethod
    def _lines(cls, text: str) -> str:
        if any(not line.partition("=")[0].strip() for line in text.splitlines() if line.strip()):
            raise ValueError("write each line as name = model")
        return text

    @property
    def models(self) -> dict[str, str]:
        """Return the model behind each tier, or other name, that the provider serves."""
        pairs = (line.partition("=") for line in self.others.splitlines() if line.strip())
        return dict.fromkeys(self.tiers, self.model.strip()) | {
            name.strip(): model.strip() for name, _, model in pairs
        }


FORM = forms.FormSpec(
    SaveProvider,
    (
        forms.Field("name", "Name", hint="Letters, digits, - _ and ."),
        forms.Field("provider", "Kind", "pick",
                    choices=tuple((kind, KINDS[kind]) for kind in get_args(Kind))),
        forms.Field("address", "Address", placeholder="owner/space or https://…",
                    hint="A Space's name, or the address of a server with OpenAI's API."),
        forms.Field("tiers", "Serves the tiers", "picks", choices=tuple((t, t) for t in TIERS)),
        forms.Field("model", "Model", hint="The model's name there. Empty for a Space."),
        forms.Field("others", "Other names", "area", placeholder="base.challenger = my-model",
                    hint="One a line: name = model. For a challenger, or a model for one tier."),
        forms.Field("company_id", "Only for", "pick"),
        forms.Field("key_name", "Secret", "pick", hint="Enter it below first."),
        forms.Field("is_active", "In use", "check"),
        forms.Field("version", "", "hidden"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Tested:
    """What a test with a real request found."""

    ok: bool
    words: str


@dataclass(frozen=True)
class Provider:
    """One provider as the list shows it; `own` is whether it can be changed here."""

    name: str
    kind: str
    address: str
    serves: str
    company: str
    revision: str
    state: str
    mark: str
    paused: bool
    active: bool
    own: bool
    tested: Tested | None = None


@dataclass(frozen=True)
class Secret:
    """One secret by name: how it ends, who entered it, and which providers need it."""

    name: str
    ends: str
    used_by: str
    by: str
    when: float | None
    entered: bool

    @property
    def warning(self) -> str:
        """Return what removing it does."""
        users = self.used_by or "no provider"
        return (
            f"Remove {self.name}? Used by: {users}. Providers that need it are out of use with"
            " the same act."
        )


@dataclass(frozen=True)
class Listed:
    """Everything that the page shows of the gateway."""

    providers: tuple[Provider, ...]
    secrets: tuple[Secret, ...]
    rows: Mapping[str, Mapping[str, Any]]
    companies: tuple[tuple[str, str], ...]

    def choices(self, kept: str = "") -> dict[str, list[tuple[str, str]]]:
        """Return the pick lists of the form."""
        names = [secret.name for secret in self.secrets]
        names += [kept] if kept and kept not in names else []
        return {
            "company_id": [("", "all companies"), *self.companies],
            "key_name": [("", "none"), *((name, name) for name in names)],
        }


async def read(gateway: GatewayClient, tested: Mapping[str, Tested]) -> Listed:
    """Return the providers, their secrets, and the companies one may be for."""
    found, secrets, companies = await asyncio.gather(
        gateway.ask("GET", "/admin/upstreams"),
        gateway.ask("GET", "/admin/secrets"),
        gateway.ask("GET", "/api/companies"),
    )
    names = {row["company_id"]: row["name"] or row["company_id"] for row in companies["companies"]}
    rows = {row["name"]: row for row in [*found["upstreams"], *found["inactive"]]}
    providers = tuple(_provider(row, names, tested.get(name)) for name, row in rows.items())
    return Listed(providers, _secrets(secrets), rows, tuple(names.items()))


def _provider(
    row: Mapping[str, Any], companies: Mapping[str, str], tested: Tested | None
) -> Provider:
    state, mark = _state(row)
    company = row.get("company_id") or ""
    return Provider(
        str(row["name"]), KINDS.get(row["provider"], str(row["provider"])), str(row["address"]),
        ", ".join(f"{tier} ({model})" if model else tier for tier, model in row["models"].items()),
        companies.get(company, company), str(row.get("revision") or ""), state, mark,
        row.get("breaker", "closed") != "closed", "breaker" in row,
        row.get("source", "entered") == "entered", tested,
    )  # fmt: skip


def _state(row: Mapping[str, Any]) -> tuple[str, str]:
    if "breaker" not in row:
        return "not in use", ""
    if row["breaker"] == "closed":
        return "in use", "good"
    return f"paused after failures, {row['breaker_retry_after_s'] or 0:.0f} s more", "bad"


def _secrets(answer: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[Secret, ...]:
    entered = [
        Secret(row["name"], str(row["hint"]), ", ".join(row["used_by"]),
               str(row.get("updated_by") or ""), row.get("updated_at"), True)
        for row in answer["secrets"]
    ]  # fmt: skip
    others = [
        Secret(row["name"], "set in the environment" if row["is_set"] else "missing: enter it",
               ", ".join(row["used_by"]), "", None, False)
        for row in answer["from_environment"]
    ]  # fmt: skip
    return (*entered, *others)


def typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a provider as its form is filled in."""
    models: Mapping[str, str] = row["models"]
    tiers = [tier for tier in TIERS if tier in models]
    model = models[tiers[0]] if tiers else ""
    others = {k: v for k, v in models.items() if k not in tiers or v != model}
    return {
        "name": row["name"], "provider": row["provider"], "address": row["address"],
        "tiers": [tier for tier in tiers if tier not in others], "model": model,
        "others": "\n".join(f"{name} = {value}" for name, value in others.items()),
        "company_id": row.get("company_id") or "", "key_name": row.get("key_name") or "",
        "is_active": row.get("is_active", True), "version": row.get("version"),
    }  # fmt: skip


async def save(gateway: GatewayClient, value: SaveProvider) -> None:
    """Enter or change a provider, unless it was changed since it was read.

    Raises: TierError.
    """
    if not value.models:
        raise TierError("choose a tier that it serves", param="tiers")
    body = {
        "provider": value.provider, "address": value.address, "models": value.models,
        "company_id": value.company_id or None, "key_name": value.key_name,
        "is_active": value.is_active, "expected_version": value.version,
    }  # fmt: skip
    await gateway.ask("PUT", path(value.name), body)


def path(name: str, act: str = "") -> str:
    """Return the gateway's route of a provider."""
    return f"/admin/upstreams/{segment(name)}{act}"


async def test(gateway: GatewayClient, name: str) -> Tested:
    """Test a provider with a real request."""
    try:
        found = await gateway.ask("POST", path(name, "/test"))
    except TierError as error:
        return Tested(False, error.message)
    if not found["ok"]:
        why = words(found.get("error_code"))
        return Tested(False, f"{why}. {found.get('message') or ''}".strip(". "))
    facts = [f"answers in {found['latency_s'] * 1000:,.0f} ms", found.get("stage")]
    if found.get("revision"):
        facts.append(f"revision {found['revision'][:12]}")
    return Tested(True, ", ".join(fact for fact in facts if fact))
