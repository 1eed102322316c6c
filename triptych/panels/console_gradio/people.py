"""The tab of companies, users and keys: enter, let in, create, revoke."""

from __future__ import annotations

import asyncio
from html import escape
from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.panels.console_gradio import budgets, drawing
from triptych.panels.console_gradio.tab import (
    QUIET,
    ConsoleTab,
    act_on,
    acts,
    ask_once,
    complaint,
    picked,
    picking_table,
    signed_in,
)
from triptych.panels.gateway_client import GatewayClient, segment

ROLES = ["user", "company_admin", "admin"]
KEYS = {
    "key_id": "key",
    "name": "name",
    "kind": "kind",
    "role": "role",
    "company_id": "company",
    "user_id": "user",
    "created_at": "created",
    "expires_at": "expires",
    "revoked_at": "revoked",
}
COMPANIES = {
    "company_id": "company",
    "name": "name",
    "industry": "industry",
    "allow_external": "content may leave this machine",
    "created_at": "since",
}
USERS = {"user_id": "user", "role": "role", "companies": "companies", "created_at": "since"}


def draw(client: gr.State) -> ConsoleTab:
    """Draw this tab; a refused form keeps what was typed."""
    said = gr.HTML()
    gr.Markdown("## Keys")
    keys = picking_table()
    changed = [*_keys(client, keys, said)]
    gr.Markdown("## Companies")
    companies = picking_table()
    changed += _companies(client, companies, said)
    gr.Markdown("## Users")
    users = gr.HTML()
    changed += _users(client, said)
    gr.Markdown("## Budgets")
    spent, touched = budgets.draw(client, said)
    changed += touched
    outputs = [keys, companies, users, spent]
    for event in changed:
        event.then(_load, client, outputs, **QUIET)
    return ConsoleTab(_load, [client], outputs)


async def _load(who: GatewayClient | None) -> list[str]:
    if who is None:
        return ["", "", "", ""]
    asked = [_rows(who, "/api/keys", "keys"), _rows(who, "/api/companies", "companies")]
    if who.role == "admin":
        asked.append(_rows(who, "/admin/users", "users"))
    try:
        spent, (keys, companies, *users) = await asyncio.gather(
            budgets.load(who), asyncio.gather(*asked)
        )
    except TierError as error:
        return [complaint(error), "", "", ""]
    return [
        drawing.table(keys, KEYS, "No key yet.", pick="key_id"),
        drawing.table(companies, COMPANIES, "No company yet: enter one below.", pick="company_id"),
        drawing.table(users[0], USERS, "No user yet: enter one below.")
        if users
        else '<p class="quiet">Users are entered by an admin of the whole service.</p>',
        spent,
    ]


async def _rows(who: GatewayClient, path: str, name: str) -> list[dict[str, Any]]:
    answer = await who.ask("GET", path)
    rows: list[dict[str, Any]] = answer[name]
    return rows


def _keys(client: gr.State, table: gr.HTML, said: gr.HTML) -> list[Any]:
    with gr.Row():
        chosen = gr.Textbox(label="Key id", info="choose a row above, or type it", min_width=180)
        table.click(picked, None, chosen, **QUIET)
    (revoke,) = acts("Revoke key")
    revoked = ask_once(revoke, [client, chosen], warn=_foresee_revoke, act=_revoke, said=said)
    with gr.Accordion("Create a key", open=False):
        with gr.Row():
            name = gr.Textbox(label="Name of the key", min_width=150)
            role = gr.Dropdown(ROLES, label="May act as", value="user", min_width=120)
            company = gr.Textbox(label="For company", min_width=120)
            user = gr.Textbox(label="For user", info="empty: for an application", min_width=120)
            days = gr.Number(label="Expires after days", value=90, minimum=1, precision=0)
        content = gr.Checkbox(label="May read what people wrote; every look is audited")
        create = gr.Button("Create key", elem_classes="act")
        fresh = gr.HTML()

    async def make(who: GatewayClient | None, *values: Any) -> str:
        try:
            return await _create_key(who, *values)
        except TierError as error:
            return complaint(error)

    form = [name, role, company, user, days, content]
    made = create.click(make, [client, *form], fresh, **QUIET)
    return [revoked, made]


async def _create_key(
    who: GatewayClient | None, name: str, role: str, company: str, user: str, days: float | None,
    content: bool = False,
) -> str:  # fmt: skip
    body = {
        "name": name.strip(),
        "kind": "user" if user.strip() else "service",
        "role": role,
        "user_id": user.strip() or None,
        "company_id": company.strip() or None,
        "expires_in_days": float(days) if days else None,
        "scopes": ["content"] if content else [],
    }
    answer = await signed_in(who).ask("POST", "/api/keys", body)
    return (
        '<p role="status">Copy it now; it is never shown again: '
        f"<code>{escape(answer['key'])}</code></p>"
    )


async def _foresee_revoke(who: GatewayClient | None, key_id: str) -> str:
    rows = await _rows(signed_in(who), "/api/keys", "keys")
    row = next((row for row in rows if row["key_id"] == key_id.strip()), None)
    if row is None:
        raise TierError("there is no such key", hint="choose one of the table")
    return (
        f"<p>Requests with <b>{escape(row['name'])}</b> are refused within a second."
        " A revoked key never works again.</p>"
    )


async def _revoke(who: GatewayClient | None, key_id: str) -> str:
    await signed_in(who).ask("DELETE", f"/api/keys/{segment(key_id)}")
    return f"Revoked: {key_id.strip()}"


def _companies(client: gr.State, table: gr.HTML, said: gr.HTML) -> list[Any]:
    with gr.Accordion("Enter or change a company", open=False):
        with gr.Row():
            company = gr.Textbox(label="Company id", min_width=140)
            name = gr.Textbox(label="Company name", min_width=140)
            industry = gr.Textbox(label="Industry", min_width=140)
            external = gr.Checkbox(label="Its content may leave this machine", min_width=200)
        enter, change = acts("Enter company", "Change company")
        table.click(picked, None, company, **QUIET)
        inputs = [client, company, name, industry, external]
        entered = act_on(enter, inputs, _enter_company, said)
        altered = ask_once(change, inputs, warn=_foresee_company, act=_change_company, said=said)
    return [entered, altered]


async def _enter_company(
    who: GatewayClient | None, company: str, name: str, industry: str, external: bool
) -> str:
    body = {
        "company_id": company.strip(),
        "name": name.strip(),
        "industry": industry.strip() or None,
        "allow_external": external,
    }
    await signed_in(who).ask("POST", "/admin/companies", body)
    return f"Company {company.strip()} added"


async def _foresee_company(
    who: GatewayClient | None, company: str, name: str, industry: str, external: bool
) -> str:
    signed_in(who)
    leaves = (
        "its requests may be answered by providers outside this machine"
        if external
        else "its requests stay with providers on this machine"
    )
    return f"<p>From the next request on, of <b>{escape(company.strip())}</b> {leaves}.</p>"


async def _change_company(
    who: GatewayClient | None, company: str, name: str, industry: str, external: bool
) -> str:
    body = {"name": name.strip(), "industry": industry.strip()}
    given = {field: value for field, value in body.items() if value}
    path = f"/api/companies/{segment(company)}"
    await signed_in(who).ask("PATCH", path, {**given, "allow_external": external})
    return f"Changed: {company.strip()}"


def _users(client: gr.State, said: gr.HTML) -> list[Any]:
    with gr.Accordion("Enter a user, or let one into a company", open=False):
        with gr.Row():
            user = gr.Textbox(label="User id", min_width=140)
            role = gr.Dropdown(ROLES, label="Role", value="user", min_width=140)
            company = gr.Textbox(label="Member of", min_width=140)
        enter, let_in, let_out = acts("Add user", "Add to company", "Remove from company")
        entered = act_on(enter, [client, user, role, company], _enter_user, said)
        added = act_on(let_in, [client, user, company], _let_in, said)
        removed = ask_once(let_out, [client, user, company],
                           warn=_foresee_out, act=_let_out, said=said)  # fmt: skip
    return [entered, added, removed]


async def _enter_user(who: GatewayClient | None, user: str, role: str, company: str) -> str:
    companies = [company.strip()] if company.strip() else []
    body = {"user_id": user.strip(), "role": role, "companies": companies}
    await signed_in(who).ask("POST", "/admin/users", body)
    return f"User {user.strip()} added"


def _membership(user: str, company: str) -> str:
    if not user.strip() or not company.strip():
        raise TierError("which user, of which company?", hint="type both ids")
    return f"/api/companies/{segment(company)}/members/{segment(user)}"


async def _let_in(who: GatewayClient | None, user: str, company: str) -> str:
    answer = await signed_in(who).ask("PUT", _membership(user, company))
    if isinstance(answer, dict) and answer.get("invited"):
        return f"{user.strip()} is invited into {company.strip()} and decides itself"
    return f"{user.strip()} is a member of {company.strip()}"


async def _foresee_out(who: GatewayClient | None, user: str, company: str) -> str:
    signed_in(who)
    _membership(user, company)
    return (
        f"<p><b>{escape(user.strip())}</b> no longer reaches the tier of"
        f" <b>{escape(company.strip())}</b>. Its keys stay.</p>"
    )


async def _let_out(who: GatewayClient | None, user: str, company: str) -> str:
    await signed_in(who).ask("DELETE", _membership(user, company))
    return f"{user.strip()} is no longer a member of {company.strip()}"
