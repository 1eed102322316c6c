"""Run the checks against an address, and say which of them it failed."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from triptych.errors import UpstreamUnreachable, UsageError
from triptych.tiers.conformance.asking import FOREIGN, Address, Ended
from triptych.tiers.conformance.checks import CHECKS

REQUIRED = frozenset({"models", "chat", "stream", "unknown-model"})
"""What no address may lack that an upstream is to be."""


async def conform(
    base: str,
    *,
    key: str = "",
    model: str = "",
    only: Collection[str] = (),
    timeout_s: float = 120.0,
) -> list[dict[str, Any]]:
    """Run every check, one after the other.

    Returns: one row for each, `result` as in `asking.Result`.
    Raises: UsageError for a name that is no check, UpstreamUnreachable when nothing answers there.
    """
    if unknown := sorted(set(only) - set(CHECKS)):
        raise UsageError(
            f"no check is called {', '.join(unknown)}", hint=f"they are {', '.join(CHECKS)}"
        )
    if "://" not in base:
        raise UsageError(f"{base!r} is no address", hint="write it as http://host:port/v1")
    async with Address(base, key, timeout_s).opened() as address:
        address.model = model or await _first_model(address)
        rows = []
        for name, check in CHECKS.items():
            if only and name not in only:
                continue
            began = time.monotonic()
            result, note = "works", ""
            try:
                note = await check(address)
            except Ended as ended:
                result, note = ended.result, ended.note
            except FOREIGN as error:
                result, note = "wrong", f"the connection broke: {type(error).__name__}"
            except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
                result, note = "wrong", f"another shape: {type(error).__name__} {error}"[:120]
            seconds = round(time.monotonic() - began, 3)
            rows.append({"check": name, "result": result, "seconds": seconds, "note": note})
    return rows


async def _first_model(address: Address) -> str:
    try:
        body = (await address.get(address.base + "/models")).body
    except FOREIGN as error:
        raise UpstreamUnreachable(
            f"nothing answers at {address.base}: {type(error).__name__}",
            hint="start the server, or check the address and the key",
        ) from error
    data = body.get("data") if isinstance(body, dict) else None
    return str(data[0].get("id", "")) if data and isinstance(data[0], dict) else ""


def failed(rows: list[dict[str, Any]]) -> list[str]:
    """Return the checks that ended wrong, and the required ones that did not work."""
    return [
        row["check"]
        for row in rows
        if row["result"] == "wrong" or (row["check"] in REQUIRED and row["result"] != "works")
    ]
