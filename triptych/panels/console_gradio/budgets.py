"""Budgets: how much a key, a user or a company may use, and how much of it is used."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.formatting import format_count
from triptych.panels.console_gradio import drawing
from triptych.panels.console_gradio.tab import (
    QUIET,
    act_on,
    acts,
    ask_once,
    picked,
    picking_table,
    signed_in,
)
from triptych.panels.gateway_client import GatewayClient, segment

KINDS = ["company", "user", "key"]
PERIODS = ["day", "month", "total"]
COLUMNS = {
    "subject": "whose",
    "period": "in a",
    "tokens_used": "tokens used",
    "cost_used": "cost",
    "ends_at": "begins anew",
    "updated_by": "set by",
}


def draw(client: gr.State, said: gr.HTML) -> tuple[gr.HTML, list[Any]]:
    """Draw the table and its form.

    Returns: the table, and the events after which it should be read again.
    """
    table = picking_table()
    with gr.Accordion("Set or end a budget", open=False):
        with gr.Row():
            kind = gr.Dropdown(KINDS, label="Budget of a", value="company", min_width=120)
            subject = gr.Textbox(label="Its id", min_width=140, elem_id="budget-of")
            period = gr.Dropdown(PERIODS, label="In a", value="month", min_width=120)
            tokens = gr.Number(label="Tokens at most", info="empty: as many as wanted",
                               precision=0, minimum=0, min_width=140)  # fmt: skip
            cost = gr.Number(label="US dollars at most", info="empty: as many as wanted",
                             minimum=0, min_width=140)  # fmt: skip
        whose = [client, kind, subject, period]
        put, end = acts("Set budget", "End budget")
        done = ask_once(put, [*whose, tokens, cost], warn=_foresee, act=_set, said=said)
        ended = act_on(end, whose, _end, said)

    def choose(event: gr.EventData) -> list[Any]:
        name, _, chosen = picked(event).rpartition(" ")
        kind_of, _, id_of = name.partition(":")
        return [kind_of, id_of, chosen] if id_of else [gr.skip()] * 3

    table.click(choose, None, [kind, subject, period], **QUIET)
    return table, [done, ended]


async def load(who: GatewayClient) -> str:
    """Draw every budget the person may see, with what is used of it."""
    rows = (await who.ask("GET", "/api/budgets"))["budgets"]
    shown = [
        {
            **row,
            "subject": f"{row['subject']} {row['period']}",
            "tokens_used": _of(row["tokens"] + row["held_tokens"], row["max_tokens"]),
            "cost_used": _of(
                (row["cost_microusd"] + row["held_cost_microusd"]) / 1e6,
                None if row["max_cost_microusd"] is None else row["max_cost_microusd"] / 1e6,
                "$",
            ),
        }
        for row in rows
    ]
    empty = "No budget yet: everybody may use as much as the rate limits allow."
    return drawing.table(shown, COLUMNS, empty, pick="subject")


def _of(used: float, most: float | None, sign: str = "") -> str:
    told = f"{sign}{used:,.2f}" if sign else format_count(float(used))
    if most is None:
        return f"{told}, no limit"
    limit = f"{sign}{most:,.2f}" if sign else format_count(float(most))
    return f"{told} of {limit}" + (f" ({used / most:.0%})" if most else "")


def _path(kind: str, subject: str, period: str) -> str:
    if not subject.strip():
        raise TierError(f"which {kind}?", hint="type its id, or choose a row")
    return f"/api/budgets/{segment(f'{kind}:{subject.strip()}')}/{period}"


async def _one(who: GatewayClient, kind: str, subject: str, period: str) -> dict[str, Any] | None:
    rows = (await who.ask("GET", "/api/budgets"))["budgets"]
    wanted = (f"{kind}:{subject.strip()}", period)
    return next((row for row in rows if (row["subject"], row["period"]) == wanted), None)


async def _foresee(
    who: GatewayClient | None, kind: str, subject: str, period: str,
    tokens: float | None, cost: float | None,
) -> str:  # fmt: skip
    who = signed_in(who)
    _path(kind, subject, period)
    if tokens is None and cost is None:
        raise TierError("a budget limits tokens or cost", hint="fill in one of the two")
    now = await _one(who, kind, subject, period)
    over = ""
    if now is not None:
        spent = (tokens is not None and now["tokens"] >= tokens) or (
            cost is not None and now["cost_microusd"] >= cost * 1e6
        )
        over = " It has used that much already and is refused at once." if spent else ""
    until = {"day": "until midnight UTC", "month": "until the month ends", "total": "for good"}
    return (
        f"<p>From the next request on, <b>{escape(f'{kind} {subject.strip()}')}</b> is refused"
        f" once it has used this, {until[period]}.{over}</p>"
    )


async def _set(
    who: GatewayClient | None, kind: str, subject: str, period: str,
    tokens: float | None, cost: float | None,
) -> str:  # fmt: skip
    who = signed_in(who)
    now = await _one(who, kind, subject, period)
    body = {
        "max_tokens": None if tokens is None else int(tokens),
        "max_cost_microusd": None if cost is None else round(cost * 1e6),
        "expected_version": now["version"] if now else 0,
    }
    await who.ask("PUT", _path(kind, subject, period), body)
    return f"Budget set: {kind} {subject.strip()}, {period}"


async def _end(who: GatewayClient | None, kind: str, subject: str, period: str) -> str:
    await signed_in(who).ask("DELETE", _path(kind, subject, period))
    return f"Budget ended: {kind} {subject.strip()}, {period}"
