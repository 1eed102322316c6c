"""The tab of personal data: consents, and requests to export, erase, restrict or correct it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.panels.console_gradio import drawing
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
    told,
)
from triptych.panels.gateway_client import GatewayClient, segment

PURPOSES = {
    "serve": "answer its requests",
    "improve": "keep its content to train its own tier",
    "abstraction": "keep its content to train the tier for everybody",
}
KINDS = {
    "export": "Export what is stored",
    "erasure": "Erase what is stored",
    "restriction": "Use it for nothing more",
    "correction": "Correct it",
}
CATEGORIES = ["content", "feedback", "requests", "account"]
ASKED = {
    "privacy_id": "request",
    "created_at": "when",
    "kind": "what",
    "company_id": "company",
    "user_id": "user",
    "asked_by": "asked by",
    "state": "state",
    "finished_at": "finished",
    "outcome": "what was done",
}
GIVEN = {
    "created_at": "when",
    "company_id": "company",
    "user_id": "user",
    "purpose": "purpose",
    "granted": "allowed",
    "actor": "by",
}


def draw(client: gr.State) -> ConsoleTab:
    """Draw this tab."""
    said = gr.HTML()
    gr.Markdown("## Data requests")
    asked = picking_table()
    changed = _requests(client, asked, said)
    gr.Markdown("## Retention")
    kept = gr.HTML()
    gr.Markdown("## Consents of a company")
    with gr.Row():
        company = gr.Textbox(label="Consents of company", min_width=160)
        purpose = gr.Dropdown([(words, name) for name, words in PURPOSES.items()],
                              label="To", value="improve", min_width=200)  # fmt: skip
    allow, withdraw = acts("Allow", "Withdraw")
    given = gr.HTML()
    inputs = [client, company, purpose]
    allowed = ask_once(allow, inputs, warn=_foresee_consent, act=_allow, said=said)
    withdrawn = ask_once(withdraw, inputs, warn=_foresee_withdrawal, act=_withdraw, said=said)
    company.submit(_consents, [client, company], given, **QUIET)
    for event in (allowed, withdrawn):
        event.then(_consents, [client, company], given, **QUIET)
    for event in changed:
        event.then(_load, client, [asked, kept], **QUIET)
    return ConsoleTab(_load, [client], [asked, kept])


async def _load(who: GatewayClient | None) -> tuple[str, str]:
    if who is None:
        return "", ""
    try:
        rows = (await who.ask("GET", "/api/privacy/requests"))["requests"]
        kept = await _kept(who) if who.role == "admin" else ""
    except TierError as error:
        return complaint(error), ""
    shown = [{**row, "outcome": drawing.change(row["result"])} for row in rows]
    return drawing.table(
        shown, ASKED, "No request yet. Users send one here or over the API.",
        pick="privacy_id",
    ), kept  # fmt: skip


async def _kept(who: GatewayClient) -> str:
    """Draw how long each class of data stays, and whose must stay for a reason outside."""
    retention, held = await asyncio.gather(
        who.ask("GET", "/admin/retention"), who.ask("GET", "/admin/legal-holds")
    )
    days = {name.replace("_", " "): f"{n:g} days" for name, n in retention["days"].items()}
    columns = {"subject": "held", "reason": "because", "created_at": "since", "created_by": "by"}
    return drawing.figures(days) + drawing.table(held["holds"], columns, "No legal hold.")


def _requests(client: gr.State, table: gr.HTML, said: gr.HTML) -> list[Any]:
    with gr.Accordion("New request", open=False):
        with gr.Row():
            kind = gr.Dropdown([(words, name) for name, words in KINDS.items()],
                               label="What", value="export", min_width=180)  # fmt: skip
            company = gr.Textbox(label="About company", min_width=140)
            user = gr.Textbox(label="About user", min_width=140)
        categories = gr.CheckboxGroup(CATEGORIES, label="Only", info="none chosen: everything")
        words = gr.Textbox(label="In words", info="what is wrong, and what would be right")
        (ask,) = acts("Ask for it")
    inputs = [client, kind, company, user, categories, words]
    asked = ask_once(ask, inputs, warn=_foresee, act=_ask, said=said)
    with gr.Row():
        chosen = gr.Textbox(label="Request over personal data", info="choose one above")
        note = gr.Textbox(label="What was corrected")
    download, close = acts("Download the export", "Close the correction")
    file = gr.File(label="Everything stored, one JSON object a line", visible=False)
    table.click(picked, None, chosen, **QUIET)
    download.click(_download, [client, chosen], [file, said], **QUIET)
    closed = act_on(close, [client, chosen, note], _close, said)
    return [asked, closed]


def _about(company: str, user: str) -> str:
    names = [f"user {user.strip()}"] * bool(user.strip())
    names += [f"company {company.strip()}"] * bool(company.strip())
    if not names:
        raise TierError("whose data?", hint="type the id of a user, of a company, or both")
    return " of ".join(names)


async def _foresee(
    who: GatewayClient | None, kind: str, company: str, user: str, categories: list[str], words: str
) -> str:
    signed_in(who)
    whose = escape(_about(company, user))
    what = escape(", ".join(categories) or "everything")
    effects = {
        "export": f"A file of {what} stored about <b>{whose}</b> is made;"
        " every download is audited.",
        "erasure": f"<b>It cannot be taken back</b>: {what} stored about <b>{whose}</b> is erased,"
        " unless a legal hold keeps it. Sums without a name stay.",
        "restriction": f"Nothing about <b>{whose}</b> is kept or used for training from now on.",
        "correction": f"An admin is asked to correct what is stored about <b>{whose}</b>.",
    }
    return f"<p>{effects[kind]}</p>"


async def _ask(
    who: GatewayClient | None, kind: str, company: str, user: str, categories: list[str], words: str
) -> str:
    body = {
        "kind": kind,
        "company_id": company.strip() or None,
        "user_id": user.strip() or None,
        "categories": categories,
        "details": words.strip(),
    }
    made = await signed_in(who).ask("POST", "/api/privacy/requests", body)
    return f"Asked: {KINDS[kind].lower()}, {_about(company, user)} ({made['privacy_id']})"


async def _close(who: GatewayClient | None, privacy_id: str, note: str) -> str:
    if not privacy_id.strip():
        raise TierError("which request?", hint="choose one of the table")
    path = f"/admin/privacy/requests/{segment(privacy_id)}/close"
    await signed_in(who).ask("POST", path, {"note": note.strip()})
    return f"Closed: {privacy_id.strip()}"


async def _download(who: GatewayClient | None, privacy_id: str) -> tuple[Any, str]:
    if who is None or not privacy_id.strip():
        return gr.update(visible=False), complaint(TierError("which request?"))
    path = Path(tempfile.mkdtemp(prefix="triptych-")) / f"{int(time.time())}-export.jsonl"
    written = 0
    try:
        with path.open("wb") as out:
            async for line in who.lines(f"/api/privacy/requests/{segment(privacy_id)}/export"):
                written += 1
                out.write(line)
    except TierError as error:
        return gr.update(visible=False), complaint(error)
    return gr.update(value=str(path), visible=True), told(f"{written} rows.")


async def _consents(who: GatewayClient | None, company: str) -> str:
    """Draw what a company allows now, and how that came."""
    if who is None or not company.strip():
        return ""
    try:
        answer = await who.ask("GET", "/api/consent", company_id=company.strip())
    except TierError as error:
        return complaint(error)
    now = dict(answer["defaults"])
    for row in sorted(answer["history"], key=lambda row: row["created_at"]):
        if row["user_id"] is None:
            now[row["purpose"]] = row["granted"]
    shown = {words: "yes" if now.get(name) else "no" for name, words in PURPOSES.items()}
    return drawing.figures(shown) + drawing.table(
        answer["history"], GIVEN, "Nothing was said yet: these are the defaults."
    )


async def _foresee_consent(who: GatewayClient | None, company: str, purpose: str) -> str:
    signed_in(who)
    _named(company)
    return (
        f"<p>From the next request on it is allowed to {PURPOSES[purpose]}:"
        f" <b>{escape(company.strip())}</b>. Say so only when the company did.</p>"
    )


async def _foresee_withdrawal(who: GatewayClient | None, company: str, purpose: str) -> str:
    signed_in(who)
    _named(company)
    refused = " <b>Its requests are refused.</b>" if purpose == "serve" else ""
    return (
        f"<p>From the next request on it is no longer allowed to {PURPOSES[purpose]}:"
        f" <b>{escape(company.strip())}</b>.{refused} What was kept before is not exported any"
        " more.</p>"
    )


def _named(company: str) -> str:
    if not company.strip():
        raise TierError("which company?", hint="type its id")
    return company.strip()


async def _set(who: GatewayClient | None, company: str, purpose: str, *, granted: bool) -> None:
    body = {"purpose": purpose, "granted": granted, "company_id": _named(company)}
    await signed_in(who).ask("PUT", "/api/consent", body)


async def _allow(who: GatewayClient | None, company: str, purpose: str) -> str:
    await _set(who, company, purpose, granted=True)
    return f"Allowed for {company.strip()}: {PURPOSES[purpose]}"


async def _withdraw(who: GatewayClient | None, company: str, purpose: str) -> str:
    await _set(who, company, purpose, granted=False)
    return f"Withdrawn for {company.strip()}: {PURPOSES[purpose]}"
