"""The registry of models, filled with what was published and recorded, not with what was typed."""

from __future__ import annotations

import json
from typing import Any

from triptych.errors import EntryNotFound, TierError
from triptych.hub.cards import RECORD_FILE
from triptych.hub.client import Hub
from triptych.hub.repository import Repo, split_revision
from triptych.panels.gateway_client import GatewayClient


def published(hub: Hub, reference: str) -> dict[str, Any]:
    """Return which commit a reference names, and what its run recorded about it."""
    if not reference.strip():
        raise TierError("no model was named", hint="choose one, with its revision")
    name, revision = split_revision(reference.strip())
    repo = Repo.parse(name)
    commit = hub.head(repo, revision)
    found: dict[str, Any] = {"name": name, "hf_model_id": name, "revision": commit}
    try:
        record = json.loads(hub.read(repo, RECORD_FILE, commit))
    except EntryNotFound:
        return found
    run, evaluations = record.get("run") or {}, record.get("evaluations") or []
    recipe = (record.get("config") or {}).get("recipe") or {}
    plain = {k: v for k, v in recipe.items() if isinstance(v, str | int | float | bool)}
    return found | {
        "run_id": run.get("run_id"),
        "dataset_hash": run.get("data_fingerprint"),
        "evaluation": evaluations[-1] if evaluations else None,
        "hyperparameters": plain or None,
    }


async def enter(who: GatewayClient, found: dict[str, Any], tier: str, company: str) -> str:
    """Add a published model for a tier; return the id of its row.

    Raises: TierError in the gateway's own words.
    """
    body = found | {"tier": tier, "company_id": company.strip() or None}
    return str((await who.ask("POST", "/admin/models", body))["model_id"])
