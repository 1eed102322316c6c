"""The view model of the models: the registry, and models side by side with their lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from triptych.panels.console.times import when
from triptych.panels.web import forms
from triptych.wire.tiers import TIERS, Tier

PAGE = "/console/models"
OFFERED = f"{PAGE}/offered"
#: As many as stand side by side.
_BESIDE = 4
_TIERS = tuple((tier, tier) for tier in TIERS)
FACTS = {
    "tier": "Tier",
    "company_id": "Company",
    "hf_model_id": "Repository",
    "revision": "Revision",
    "is_active": "Active",
    "created_at": "Added",
    "parent_model_id": "Parent model",
    "run_id": "Run",
    "dataset_hash": "Training data",
    "hf_space_id": "Served by",
    "evaluation": "Measured",
    "hyperparameters": "Settings",
    "is_tainted": "Saw test data",
}


class AddModel(BaseModel):
    """A published model, for a tier and perhaps one company."""

    model: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str = Field(default="main", min_length=1)
    tier: Tier = "base"
    company_id: str = ""


class Publish(BaseModel):
    """A checkpoint of a run, its repository, and the tier that it is added for."""

    run: str = Field(min_length=1)
    checkpoint: str = Field(min_length=1)
    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    private: bool = True
    tier: Tier = "base"
    company_id: str = ""


ADD = forms.FormSpec(
    AddModel,
    (
        forms.Field("model", "Published model", placeholder="owner/name", offered=OFFERED),
        forms.Field("revision", "Revision", hint="A branch, a tag or a commit."),
        forms.Field("tier", "For the tier", "pick", choices=_TIERS),
        forms.Field("company_id", "Of", "pick"),
    ),
)
PUBLISH = forms.FormSpec(
    Publish,
    (
        forms.Field("run", "", "hidden"),
        forms.Field("checkpoint", "Checkpoint", "pick"),
        forms.Field("repo", "To the repository", placeholder="owner/name"),
        forms.Field("private", "Private", "check"),
        forms.Field("tier", "Add it for the tier", "pick", choices=_TIERS),
        forms.Field("company_id", "Of", "pick"),
    ),
)


@dataclass(frozen=True)
class Model:
    """One registered model as the list shows it."""

    model_id: str
    name: str
    tier: str
    company: str
    revision: str
    active: bool
    added: str
    chosen: bool


@dataclass(frozen=True)
class Facts:
    """One model with everything that is recorded of it."""

    name: str
    facts: Mapping[str, str]


def models(
    rows: Sequence[Mapping[str, Any]], chosen: Sequence[str], companies: Mapping[str, str]
) -> tuple[Model, ...]:
    """Return the registry, the newest first."""
    return tuple(
        Model(
            row["model_id"], str(row["name"]), str(row["tier"]),
            companies.get(row["company_id"] or "", row["company_id"] or "all"),
            str(row["revision"] or "")[:12], bool(row["is_active"]), when(row["created_at"]),
            row["model_id"] in chosen,
        )
        for row in sorted(rows, key=lambda row: -float(row["created_at"] or 0))
    )  # fmt: skip


def beside(rows: Sequence[Mapping[str, Any]], chosen: Sequence[str]) -> tuple[Facts, ...]:
    """Return the chosen models with their lineage."""
    by_id = {row["model_id"]: row for row in rows}
    return tuple(
        Facts(str(by_id[name]["name"]), {
            label: _fact(key, by_id[name].get(key)) for key, label in FACTS.items()
        })
        for name in chosen[:_BESIDE] if name in by_id
    )  # fmt: skip


def _fact(key: str, value: Any) -> str:
    if value is None or value == "":
        return "–"
    if key == "created_at":
        return when(float(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_number(one)}" for name, one in value.items())
    return str(value)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def whose(company: str) -> str:
    """Return for whom a model is, in words."""
    return f"of {company}" if company else "of all companies"
