"""Switches that differ for some: a share of users or companies, and exceptions for one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field

from triptych.panels.console.switches.view import LABELS
from triptych.panels.gateway_client import GatewayClient, segment
from triptych.panels.web import forms

_SWITCHES = tuple(LABELS.items())
#: Users whose names are offered; an admin types any other.
_OFFERED = 200


class Share(BaseModel):
    """A switch that is on for a share."""

    key: str
    percentage: float = Field(default=10, ge=0, le=100)
    by: Literal["company", "user"] = "company"


class Override(BaseModel):
    """A switch that is different for one company or user."""

    key: str
    subject: str = Field(pattern=r"^(company|user):.+$")
    value: Literal["on", "off"] = "on"


SHARE = forms.FormSpec(
    Share,
    (
        forms.Field("key", "Switch", "pick", choices=_SWITCHES),
        forms.Field("percentage", "On for, in percent", "number",
                    hint="Always the same ones, and off for the others. Exceptions stay."),
        forms.Field("by", "Of all", "pick", choices=(("company", "companies"), ("user", "users"))),
    ),
)  # fmt: skip
EXCEPTION = forms.FormSpec(
    Override,
    (
        forms.Field("key", "Switch", "pick", choices=_SWITCHES),
        forms.Field("subject", "For", "pick"),
        forms.Field("value", "Is", "pick", choices=(("on", "on"), ("off", "off"))),
    ),
)


@dataclass(frozen=True)
class Listed:
    """One exception as the page lists it."""

    key: str
    label: str
    subject: str
    on: str


def listed(flags: Sequence[Mapping[str, Any]]) -> tuple[Listed, ...]:
    """Return every exception of every switch."""
    return tuple(
        Listed(
            row["key"], LABELS.get(row["key"], row["key"]),
            f"{each['scope']}:{each['subject_id']}", str(each["variant"]),
        )
        for row in flags for each in row["overrides"]
    )  # fmt: skip


async def subjects(gateway: GatewayClient) -> list[tuple[str, str]]:
    """Return the companies and users for which an exception can be made."""
    companies = (await gateway.ask("GET", "/api/companies"))["companies"]
    users = (await gateway.ask("GET", "/admin/users"))["users"]
    found = [
        (f"company:{row['company_id']}", f"company {row['name'] or row['company_id']}")
        for row in companies
    ]
    found += [(f"user:{row['user_id']}", f"user {row['user_id']}") for row in users[:_OFFERED]]
    return found


async def roll_out(gateway: GatewayClient, share: Share, version: int | None) -> str:
    """Turn a switch on for a share; the version that was seen must still be there."""
    body = {"percentage": share.percentage, "by": share.by, "expected_version": version}
    await gateway.ask("PUT", f"/admin/flags/{segment(share.key)}/rollout", body)
    whom = "companies" if share.by == "company" else "users"
    return f"{LABELS.get(share.key, share.key)} is on for {share.percentage:g} % of {whom}"


async def override(gateway: GatewayClient, key: str, subject: str, value: bool | None) -> str:
    """Set a switch for one company or user; None makes it as for all others."""
    scope, _, name = subject.partition(":")
    path = f"/admin/flags/{segment(key)}/overrides/{scope}/{segment(name)}"
    await gateway.ask("PUT", path, {"value": value})
    label, turned = LABELS.get(key, key), {True: "on", False: "off", None: "as for all others"}
    return f"{label} is {turned[value]} for {scope} {name}"
